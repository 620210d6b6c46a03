// Bytes of a stream → its events, by the rules of WHATWG.
//
// Owns: decoding, lines, fields, dispatch. Does not know: what an event means, where bytes come from.
// Flow: chunks, cut anywhere, in ← blocks out →; an unfinished block stays until its rest comes, or is dropped with the parser.

import { EVENT_CHARS_MAX } from './limits.js';

/** One event as it stands on the wire. */
export interface Block {
  event: string;
  data: string;
  /** The id in this block; `undefined` if it has none. */
  id: string | undefined;
  /** The last id of the stream, which stays until another one comes. */
  lastEventId: string;
  channel: string | undefined;
  from: string | undefined;
  time: number | undefined;
  /** The data was larger than `EVENT_CHARS_MAX` and was dropped. */
  tooLarge: boolean;
}

export interface Parser {
  push(chunk: Uint8Array): Block[];
}

export function createParser(onRetry: (ms: number) => void): Parser {
  const decoder = new TextDecoder();
  let rest = '';
  let afterCr = false;
  let id: string | undefined;
  let lastEventId = '';
  let block = emptyBlock();
  let hasData = false;

  const field = (name: string, value: string): void => {
    switch (name) {
      case 'data':
        if (block.data.length + value.length > EVENT_CHARS_MAX) block.tooLarge = true;
        else block.data += hasData ? `\n${value}` : value;
        hasData = true;
        break;
      case 'event':
        block.event = value;
        break;
      case 'id':
        if (!value.includes('\0')) id = value;
        break;
      case 'retry':
        if (/^[0-9]+$/.test(value)) onRetry(Number(value));
        break;
      case 'channel':
        block.channel = value;
        break;
      case 'from':
        block.from = value;
        break;
      case 'time':
        block.time = /^[0-9]{1,15}$/.test(value) ? Number(value) : undefined;
    }
  };

  const line = (text: string, out: Block[]): void => {
    if (text === '') {
      lastEventId = id ?? lastEventId;
      if (hasData) {
        if (block.tooLarge) block.data = '';
        out.push({ ...block, event: block.event || 'message', id, lastEventId });
      }
      block = emptyBlock();
      hasData = false;
      id = undefined;
      return;
    }
    const colon = text.indexOf(':');
    if (colon < 0) field(text, '');
    else if (colon > 0) field(text.slice(0, colon), text.slice(text[colon + 1] === ' ' ? colon + 2 : colon + 1));
  };

  return {
    push(chunk) {
      const out: Block[] = [];
      let text = decoder.decode(chunk, { stream: true });
      if (afterCr && text !== '') {
        if (text[0] === '\n') text = text.slice(1);
        afterCr = false;
      }
      let start = 0;
      let lf = text.indexOf('\n');
      let cr = text.indexOf('\r');
      while (lf >= 0 || cr >= 0) {
        const end = cr < 0 || (lf >= 0 && lf < cr) ? lf : cr;
        line(rest + text.slice(start, end), out);
        rest = '';
        start = end + 1;
        if (end === cr) {
          if (start === text.length) afterCr = true;
          else if (text[start] === '\n') start += 1;
          cr = text.indexOf('\r', start);
        }
        if (lf >= 0 && lf < start) lf = text.indexOf('\n', start);
      }
      rest += text.slice(start);
      // A line that is too long keeps its beginning, which names the field, and is found too large at its end.
      if (rest.length > 2 * EVENT_CHARS_MAX) {
        rest = rest.slice(0, EVENT_CHARS_MAX + 64);
      }
      return out;
    },
  };
}

function emptyBlock(): Block {
  return {
    event: '', data: '', id: undefined, lastEventId: '', channel: undefined, from: undefined, time: undefined, tooLarge: false,
  };
}
