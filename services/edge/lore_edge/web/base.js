/** The URL of this Lore without a slash at its end, below whatever path a proxy serves it. */
export const BASE = new URL("..", import.meta.url).href.replace(/\/+$/, "");
