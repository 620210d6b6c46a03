// Bytes of a stream → its events, by the rules of WHATWG.
//
// Owns: decoding, lines, fields, dispatch. Does not know: what an event means, where bytes come from.
// Flow: chunks, cut anywhere, in ← blocks out →; an unfinished block stays until its rest comes, or is dropped with the parser.

import { EVENT_CHARS_MAX } from './limits.js';

/** One event as it stands on the wire. */
export interface Block {
  event?: string;
  data: string;
  /** The id that has come since the event before; `undefined` if that one's still counts. */
  id?: string | undefined;
  channel?: string;
  from?: string | undefined;
  time?: number;
  /** The data was larger than `EVENT_CHARS_MAX` and was dropped. */
  tooLarge?: boolean;
}

export interface Parser {
  push(chunk: Uint8Array): Block[];
}

export function createParser(onRetry: (ms: number) => void): Parser {
  const decoder = new TextDecoder();
  let rest = '';
  let afterCr = false;
  let id: string | undefined;
  let block: Partial<Block> = {};

  function field(name: string, value: string): void {
    if (name === 'data') {
      const data = block.data === undefined ? value : `${block.data}\n${value}`;
      if (data.length > EVENT_CHARS_MAX) block.tooLarge = true;
      block.data = block.tooLarge ? '' : data;
    } else if (name === 'event' || name === 'channel' || name === 'from') block[name] = value;
    else if (name === 'id') id = value.includes('\0') ? id : value;
    else if (/^\d{1,15}$/.test(value)) {
      if (name === 'retry') onRetry(Number(value));
      else if (name === 'time') block.time = Number(value);
    }
  }

  return {
    push(chunk) {
      const out: Block[] = [];
      const decoded = decoder.decode(chunk, { stream: true });
      // A line feed behind the carriage return of the chunk before.
      const text = afterCr && decoded[0] === '\n' ? decoded.slice(1) : decoded;
      if (decoded) afterCr = decoded.endsWith('\r');
      const lines = text.split(/\r\n?|\n/);
      lines[0] = rest + lines[0];
      rest = lines.pop()!;
      for (const line of lines) {
        if (line) {
          const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line)!;
          field(name!, value!);
        } else {
          if (block.data !== undefined) {
            out.push({ ...(block as Block), id });
            id = undefined;
          }
          block = {};
        }
      }
      // A line that is too long keeps its beginning, which names the field, and is found too large at its end.
      if (rest.length > 2 * EVENT_CHARS_MAX) rest = rest.slice(0, EVENT_CHARS_MAX + 64);
      return out;
    },
  };
}
