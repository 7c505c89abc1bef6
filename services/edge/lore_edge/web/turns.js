/** The turns before the last one. They do not change any more. */

import { element } from "./draw.js";
import { drawQuestion } from "./question.js";
import { MarkdownView } from "./render.js";
import { TOOLS } from "./tools.js";

/**
 * @param {HTMLElement} root the element for the turns
 * @param {{question: string, answer: string}[]} turns
 * @param {(question: string, earlier: object[]) => void} onAsk gets an edited question and the turns
 *   before it
 * @param {AbortSignal} signal ends the drawing
 */
export function drawTurns(root, turns, onAsk, signal) {
  const nodes = turns.map(({ question, answer }, i) => {
    const prose = element("div", [], "prose");
    drawWhole(prose, answer, signal);
    const asked = drawQuestion(question, (text) => onAsk(text, turns.slice(0, i)));
    return element("section", [asked, prose], "turn");
  });
  root.replaceChildren(...nodes);
}

/** Draws a window of the text in each frame, like a growing answer. */
function drawWhole(root, text, signal) {
  const view = new MarkdownView(root, TOOLS);
  const step = () => {
    if (!signal.aborted && !view.show(text, false)) requestAnimationFrame(step);
  };
  step();
}
