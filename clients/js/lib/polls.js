/**
 * Whether a reader takes a stream, or polls because its stream is held back on the way
 * (protocol P18). No I/O: time comes in as `now`, in milliseconds on any one clock.
 *
 * An edge says at once that a stream has begun, and something at least every half of the silence
 * that it names. When that does not come, the reader asks beside the stream; what the stream has
 * still not told a moment after the answer is held back.
 */

const OPENING_MS = 1000;
/** Of the silence that the edge has named; it promised something within half of it. */
const OVERDUE = 2 / 3;
/** Of an edge that names none. */
const MAX_SILENCE_MS = 60_000;
/** What is on its way at the same time comes in this time. */
export const CATCH_UP_MS = 250;
/** How long each poll waits: not so long that an edge that stands still goes unnoticed. */
export const WAIT_S = 5;
const STREAM_AGAIN_MS = 30_000;
const MAX_STREAM_AGAIN_MS = 600_000;

export class Fallback {
  /** The stream has said how its request stands. */
  told = false;
  heardAt = 0;
  #silenceMs = MAX_SILENCE_MS;
  #againMs = STREAM_AGAIN_MS;
  #streamAt = -Infinity;

  /** A stream is asked for. */
  onAsked(now) {
    this.told = false;
    this.heardAt = now;
  }

  onHeard(now) {
    this.heardAt = now;
  }

  /** @param {number} silenceMs how long the edge may be silent; 0 where it does not say */
  onTold(silenceMs) {
    this.told = true;
    if (silenceMs > 0) this.#silenceMs = silenceMs;
  }

  /** When to poll beside the stream, unless something is heard before. */
  get askAt() {
    const patience = this.told ? Math.max(OPENING_MS, OVERDUE * this.#silenceMs) : OPENING_MS;
    return this.heardAt + patience;
  }

  /** Whether a poll tells more than the stream, which has come to `position`. */
  isAhead({ seq, end }, position) {
    return end !== null || seq > position || !this.told;
  }

  onHeldBack(now) {
    this.#streamAt = now + this.#againMs;
    this.#againMs = Math.min(2 * this.#againMs, MAX_STREAM_AGAIN_MS);
  }

  /** The way may be another one now: try a stream. */
  onMoved() {
    this.#streamAt = -Infinity;
  }

  isPolling(now) {
    return now < this.#streamAt;
  }
}
