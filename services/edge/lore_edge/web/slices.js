/** Work that is done in slices, so that the page answers in between. */

const SLICE_MS = 8;

/** Calls each function of a set, and removes it. */
export function runInSlices(waiting) {
  const until = performance.now() + SLICE_MS;
  for (const one of waiting) {
    waiting.delete(one);
    one();
    if (performance.now() > until) {
      setTimeout(() => runInSlices(waiting)); // A hidden page gets no animation frames.
      return;
    }
  }
}
