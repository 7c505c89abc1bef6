/**
 * What a reader decides, without I/O: order, duplicates, gaps, and when to acknowledge.
 *
 * Time comes in as `now` (milliseconds on any one clock) and the next deadline goes out
 * of `deadline()`, so that the shell around it needs one timer (protocol P1, P9, P11).
 */

/** Acks open the window: one for each quarter of it, or this long after the first new chunk. */
const ACKS_PER_WINDOW = 4;
const ACK_DELAY_MS = 400;
/** Chunks held back behind a gap. More are dropped; they are asked for again. */
const MAX_EARLY_CHUNKS = 1024;
/** A gap that retransmission has not filled by then is filled by a new connection. */
const GAP_TIMEOUT_MS = 3000;
const ACK_RETRY_MIN_MS = 250;
const ACK_RETRY_MAX_MS = 5000;

export class Receiver {
  /** @param {number} after the seq up to which the reader already has everything */
  constructor(after = 0) {
    this.seq = after;
    this.acked = 0;
    this.duplicates = 0;
    this.window = 32;
    this.#highest = after;
    this.#sent = after;
  }

  #highest;
  /** Of the answer up to `seq`, as far as the edge says it. */
  #tokens = 0;
  #sentTokens = 0;

  #early = new Map();
  #gapSince = null;

  #sent;
  #inFlight = null;
  #owedSince = null;
  #urgent = false;
  #failures = 0;
  #retryAt = 0;

  /** Tokens of the answer up to `seq`; 0 where an edge does not say. */
  get tokens() {
    return this.#tokens;
  }

  get early() {
    return this.#early.size;
  }

  /** True while something later than the next seq has arrived. */
  get gap() {
    return this.#highest > this.seq;
  }

  /**
   * Take one chunk. Returns the text that is now in order, which may be empty.
   * @param {number} tokens how many the answer has up to here; an older edge does not say it
   */
  take(seq, text, now, tokens = 0) {
    if (seq <= this.seq || this.#early.has(seq)) {
      this.duplicates += 1;
      this.#urgent = true;
      return "";
    }
    this.#highest = Math.max(this.#highest, seq);
    if (seq > this.seq + 1) {
      if (this.#early.size < MAX_EARLY_CHUNKS) this.#early.set(seq, [text, tokens]);
      this.#gapSince ??= now;
      return "";
    }
    return this.#advance(text, tokens, now);
  }

  /** Take all chunks up to `seq` in one piece, as a poll brings them. Returns the new text. */
  takeText(seq, text, now, tokens) {
    if (seq <= this.seq) return "";
    this.#owedSince ??= now;
    this.#tokens = tokens || this.#tokens + seq - this.seq;
    this.seq = seq;
    this.#early.clear();
    this.#highest = seq;
    this.#gapSince = null;
    return text;
  }

  #advance(text, tokens, now) {
    this.#owedSince ??= now;
    this.#count(tokens);
    while (this.#early.has(this.seq + 1)) {
      const [more, upToHere] = this.#early.get(this.seq + 1);
      this.#count(upToHere);
      text += more;
      this.#early.delete(this.seq);
    }
    if (this.#gapSince !== null) {
      this.#urgent = true;
      this.#gapSince = this.gap ? now : null;
    }
    return text;
  }

  #count(tokens) {
    this.seq += 1;
    this.#tokens = tokens || this.#tokens + 1;
  }

  /** The log ends at `lastSeq`. Returns whether everything is here; acknowledges at once if so. */
  end(lastSeq, now) {
    this.#highest = Math.max(this.#highest, lastSeq);
    if (this.gap) {
      this.#gapSince ??= now;
      return false;
    }
    this.#urgent = this.seq > this.acked;
    return true;
  }

  /** True when a gap has waited too long: connect again from `seq`. */
  gapExpired(now) {
    return this.#gapSince !== null && now - this.#gapSince >= GAP_TIMEOUT_MS;
  }

  /** The connection is gone; the next one starts from `seq`, so nothing is held back for a gap. */
  restarted() {
    this.#gapSince = null;
    this.#highest = this.seq;
    this.#early.clear();
    this.#retryAt = 0;
    this.#failures = 0;
  }

  /** The seq to acknowledge now, or null. After it, exactly one `ackSettled` must follow. */
  takeAck(now) {
    if (this.#inFlight !== null || now < this.#ackAt()) return null;
    this.#inFlight = this.seq;
    this.#sent = Math.max(this.#sent, this.seq);
    this.#sentTokens = this.#tokens;
    this.#urgent = false;
    this.#owedSince = null;
    return this.#inFlight;
  }

  /** @param {boolean} ok false when the ack must be sent again */
  ackSettled(ok, now) {
    if (ok) {
      this.acked = Math.max(this.acked, this.#inFlight);
      this.#failures = 0;
      this.#retryAt = 0;
    } else {
      this.#sent = Math.min(this.#sent, this.acked);
      this.#urgent = true;
      this.#retryAt = now + Math.min(ACK_RETRY_MAX_MS, ACK_RETRY_MIN_MS * 2 ** this.#failures);
      this.#failures += 1;
    }
    this.#inFlight = null;
  }

  #ackAt() {
    if (this.seq === 0) return Infinity;
    const news = this.#tokens - this.#sentTokens;
    if (this.#urgent || news * ACKS_PER_WINDOW >= this.window) return this.#retryAt;
    if (this.seq <= this.#sent || this.#owedSince === null) return Infinity;
    return Math.max(this.#retryAt, this.#owedSince + ACK_DELAY_MS);
  }

  /** When `takeAck` or `gapExpired` will next have something to say; Infinity for never. */
  deadline() {
    const gapAt = this.#gapSince === null ? Infinity : this.#gapSince + GAP_TIMEOUT_MS;
    return Math.min(gapAt, this.#inFlight === null ? this.#ackAt() : Infinity);
  }
}

/** How long to wait before attempt `n` (from 0): exponential with full jitter, in milliseconds. */
export function backoff(n, random = Math.random) {
  return random() * Math.min(10_000, 250 * 2 ** n);
}
