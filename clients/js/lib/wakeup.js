/**
 * Call `wake` when the network comes back, and when the page is shown again.
 *
 * `wake(true)` means that existing connections are likely dead, as after a change of network or for
 * a page from the back-forward cache. Returns a function that removes the listeners. Without a page,
 * as in Node, `wake` is never called.
 */
export function onWakeUp(wake) {
  if (typeof document === "undefined") return () => {};
  const end = new AbortController();
  const { signal } = end;
  addEventListener("online", () => wake(true), { signal });
  addEventListener("pageshow", (event) => event.persisted && wake(true), { signal });
  document.addEventListener("visibilitychange", () => document.hidden || wake(false), { signal });
  return () => end.abort();
}
