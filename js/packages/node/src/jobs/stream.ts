// Owns: the bytes of an event stream as events, by WHATWG's rules. Does not know: what events mean, reconnecting.
// Flow: in ← chunks of bytes, cut anywhere · out → events, `retry:`, and the id that a reconnect sends.

import { TidingsError } from '../error.js';
import { EVENT_CHARS_MAX } from '../limits.js';

export interface StreamEvent {
  event: string;
  data: string;
  /** What a reconnect sends once this event has been dealt with. */
  lastEventId: string;
}

export interface StreamParser {
  /** The events that are complete with this chunk. */
  push(chunk: Uint8Array): StreamEvent[];
  /** What the server asked for with `retry:`. */
  readonly retryMs: number | undefined;
  readonly lastEventId: string;
}

export function createStreamParser(lastEventId = ''): StreamParser {
  // The decoder takes off one byte order mark.
  const decoder = new TextDecoder();
  let rest = '';
  /** A carriage return ended the last chunk: a line feed at the start of the next belongs to it. */
  let isAfterReturn = false;
  let type = '';
  let data: string[] = [];
  let chars = 0;
  let id = lastEventId;
  let retryMs: number | undefined;
  return {
    get retryMs() {
      return retryMs;
    },
    get lastEventId() {
      return lastEventId;
    },
    push(chunk) {
      const events: StreamEvent[] = [];
      let text = decoder.decode(chunk, { stream: true });
      if (text === '') return events;
      if (isAfterReturn && text.startsWith('\n')) text = text.slice(1);
      isAfterReturn = text === '' ? false : text.endsWith('\r');
      const lines = text.split(/\r\n|\n|\r/);
      lines[0] = rest + (lines[0] ?? '');
      rest = lines.pop() ?? '';
      for (const line of lines) take(line, events);
      if (rest.length + chars > EVENT_CHARS_MAX) throw tooLarge();
      return events;
    },
  };

  function take(line: string, events: StreamEvent[]): void {
    if (line === '') {
      dispatch(events);
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'data') {
      chars += value.length + 1;
      if (chars > EVENT_CHARS_MAX) throw tooLarge();
      data.push(value);
    } else if (name === 'event') type = value;
    else if (name === 'id' && !value.includes('\0')) id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) retryMs = Number(value);
  }

  function dispatch(events: StreamEvent[]): void {
    lastEventId = id;
    if (data.length > 0) {
      events.push({ event: type === '' ? 'message' : type, data: data.join('\n'), lastEventId });
    }
    type = '';
    data = [];
    chars = 0;
  }
}

function tooLarge(): TidingsError {
  return new TidingsError('answer_invalid', `an event of more than ${EVENT_CHARS_MAX} characters`, { status: 200 });
}
