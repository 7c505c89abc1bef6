/** The questions and answers so far, and the messages before a further question. */

/** Asks for the rest of an answer that ended at its limit. */
export const GO_ON = "Continue where you stopped.";
const MAX_TITLE_CHARS = 120;

/**
 * @param {{role: string, content: string}[]} messages the messages before an answer
 * @returns {{earlier: {question: string, answer: string}[], question: string}}
 */
export function turnsOf(messages) {
  const turns = [];
  for (const { role, content } of messages) {
    const last = turns.at(-1);
    if (role === "user" && (!last || last.answer)) turns.push({ question: content, answer: "" });
    else if (role === "user") last.question = together(last.question, content);
    else if (last) last.answer = together(last.answer, content);
    else turns.push({ question: "", answer: content });
  }
  const isAsked = turns.length > 0 && !turns.at(-1).answer;
  return { question: isAsked ? turns.pop().question : "", earlier: turns };
}

const together = (one, other) => [one, other].filter(Boolean).join("\n\n");

/** The turns as messages. A question without an answer, because it was stopped early, is left out. */
export function messagesOf(turns) {
  return turns
    .filter(({ question, answer }) => question && answer)
    .flatMap(({ question, answer }) => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ]);
}

/** The body of a request for an answer to `question`, after the turns before it. */
export function bodyOf(question, earlier) {
  const messages = messagesOf(earlier);
  return messages.length ? { question, messages } : { question };
}

/** A question as one line, short enough for a heading. */
export function titleOf(question) {
  const line = question.trim().split("\n", 1)[0].trim().replace(/\s+/g, " ");
  return line.length > MAX_TITLE_CHARS ? `${line.slice(0, MAX_TITLE_CHARS - 1)}…` : line;
}
