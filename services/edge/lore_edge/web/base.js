/** Where this Lore stands: its URL without a slash at the end, whatever path a proxy has it below. */
export const BASE = new URL("..", import.meta.url).href.replace(/\/+$/, "");
