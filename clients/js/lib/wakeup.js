/**
 * Call `wake` when the network comes back, and when the page is shown again.
 *
 * `wake(true)` means that connections made before are likely dead, as after another network
 * or a page kept in the back-forward cache. Returns the function that ends this. Where there is no
 * page, as in Node, nobody calls.
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
