/** Separates the model's thoughts, in `<think>…</think>`, from its answer. */

const OPENING = "<think>";
const CLOSING = "</think>";
const FENCE = /^ {0,3}(```|~~~)/gm;

/**
 * Some chat templates open the thoughts in the prompt: then the text has only their end, on a line of
 * its own.
 *
 * @param {string} text the answer so far
 * @returns {{thought: string, answer: string, isThinking: boolean}}
 */
export function apart(text) {
  const start = text.trimStart();
  if (OPENING.startsWith(start.slice(0, OPENING.length)) && start.length < OPENING.length && start) {
    return { thought: "", answer: "", isThinking: true }; // the tag is not complete yet
  }
  if (!start.startsWith(OPENING)) return withoutOpening(text);
  const inside = start.slice(OPENING.length);
  const end = inside.indexOf(CLOSING);
  if (end === -1) return { thought: withoutPart(inside), answer: "", isThinking: true };
  return closed(inside.slice(0, end), inside.slice(end + CLOSING.length));
}

function withoutOpening(text) {
  const end = /(^|\n)<\/think>[ \t]*(?=\n)/.exec(text);
  const isThought = end && (text.slice(0, end.index).match(FENCE) ?? []).length % 2 === 0;
  if (!isThought) return { thought: "", answer: text, isThinking: false };
  return closed(text.slice(0, end.index), text.slice(end.index + end[0].length));
}

const closed = (thought, rest) => ({ thought: thought.trim(), answer: rest.trimStart(), isThinking: false });

/** The text without the beginning of a closing tag at its end. */
function withoutPart(text) {
  for (let length = CLOSING.length - 1; length > 0; length -= 1) {
    if (text.endsWith(CLOSING.slice(0, length))) return text.slice(0, -length).trimStart();
  }
  return text.trimStart();
}
