/**
 * Whether a reader uses a stream, or polls because its stream is held back on the way
 * (protocol P18). No I/O: time comes in as `now`, in milliseconds on any one clock.
 *
 * An edge sends the beginning of a stream at once, and then something at least every half of the
 * silence that it names. If that does not arrive, the reader polls beside the stream. Text that the
 * poll brings and the stream still lacks a moment later is held back.
 */

const OPENING_MS = 1000;
/** Poll after this share of the silence that the edge named: it promised something within half. */
const OVERDUE = 2 / 3;
/** The silence to assume of an edge that names none. */
const MAX_SILENCE_MS = 60_000;
/** How long the stream gets to bring what a poll has brought. */
export const CATCH_UP_MS = 250;
/** How many seconds each poll waits: short enough to notice an edge that stands still. */
export const WAIT_S = 5;
const STREAM_AGAIN_MS = 30_000;
const MAX_STREAM_AGAIN_MS = 600_000;

export class Fallback {
  /** Whether the stream has told the state of its request. */
  told = false;
  heardAt = 0;
  #silenceMs = MAX_SILENCE_MS;
  #againMs = STREAM_AGAIN_MS;
  #streamAt = -Infinity;

  /** A stream was requested. */
  onAsked(now) {
    this.told = false;
    this.heardAt = now;
  }

  onHeard(now) {
    this.heardAt = now;
  }

  /** @param {number} silenceMs how long the edge may be silent; 0 if it does not say */
  onTold(silenceMs) {
    this.told = true;
    if (silenceMs > 0) this.#silenceMs = silenceMs;
  }

  /** When to poll beside the stream, unless something arrives before. */
  get askAt() {
    const patience = this.told ? Math.max(OPENING_MS, OVERDUE * this.#silenceMs) : OPENING_MS;
    return this.heardAt + patience;
  }

  /** Whether a poll brought more than the stream, which is at `position`. */
  isAhead({ seq, end }, position) {
    return end !== null || seq > position || !this.told;
  }

  onHeldBack(now) {
    this.#streamAt = now + this.#againMs;
    this.#againMs = Math.min(2 * this.#againMs, MAX_STREAM_AGAIN_MS);
  }

  /** The network path may have changed: try a stream. */
  onMoved() {
    this.#streamAt = -Infinity;
  }

  isPolling(now) {
    return now < this.#streamAt;
  }
}
