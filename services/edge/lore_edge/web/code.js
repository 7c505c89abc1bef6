/** Code with colours. A language's rules are loaded with the first code in it. */

import { element } from "./draw.js";
import { runInSlices } from "./slices.js";

let highlight = null;
let loading = null;
const waiting = new Set();

/**
 * Puts a piece of code into `node`.
 *
 * @param {HTMLElement} node
 * @param {string} text
 * @param {string} info the info string of the fence
 * @param {object|null} open what this function returned for the piece before
 * @returns {object|null} what the piece leaves open
 */
export function fillCode(node, text, info, open) {
  const said = highlight?.(text, info, open);
  if (said) {
    node.replaceChildren(...said.pieces.map(([kind, piece]) => (kind ? element("span", [piece], kind) : piece)));
    return said.open;
  }
  node.replaceChildren(text);
  if (info && !highlight) wait(() => node.isConnected && fillCode(node, text, info, open));
  return null;
}

function wait(fill) {
  waiting.add(fill);
  loading ??= import("./highlight.js").then(
    (module) => {
      highlight = module.highlight;
      runInSlices(waiting);
    },
    () => (loading = null), // The next code tries again.
  );
}

/** All code of a block; long code is in several elements. */
export const codeOf = (block) =>
  [...block.querySelectorAll("code")].map(({ textContent }) => textContent).join("\n");
