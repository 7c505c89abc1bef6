/** A question above its answer, and the form in which it is edited and asked again. */

import { titleOf } from "./conversation.js";
import { element } from "./draw.js";

/**
 * A question that fits a line is a heading. A longer one is shown as written, with its line breaks,
 * below a heading for screen readers.
 *
 * @param {string} text
 * @param {(text: string) => void} onAsk gets the edited question
 */
export function drawQuestion(text, onAsk) {
  const title = titleOf(text) || "A shared answer";
  const isShort = title === text.trim() || !text;
  const heading = element("h2", [title], isShort ? "" : "sr");
  heading.tabIndex = -1;
  const parts = isShort ? [heading] : [heading, ...whole(text)];
  const node = element("div", parts, isShort ? "question" : "question long");
  if (text) node.append(editButton(node, text, onAsk));
  return node;
}

function whole(text) {
  const said = element("div", codeApart(text), "said");
  const more = button("Show all", "quiet more", () => {
    const all = said.classList.toggle("all");
    more.textContent = all ? "Show less" : "Show all";
    more.setAttribute("aria-expanded", String(all));
  });
  more.hidden = true;
  more.setAttribute("aria-expanded", "false");
  // Only the layout shows whether it is cut off.
  new ResizeObserver(() => {
    if (!said.classList.contains("all")) more.hidden = said.scrollHeight <= said.clientHeight;
  }).observe(said);
  return [said, more];
}

/** Splits a question into text and fenced code. Both keep their line breaks. */
function codeApart(text) {
  return text.split(/^```[^\n]*\n?/m).flatMap((part, i) => {
    const content = part.replace(/^\n+|\n+$/g, "");
    if (!content.trim()) return [];
    return [i % 2 ? element("pre", [element("code", [content])]) : element("p", [content])];
  });
}

function editButton(node, text, onAsk) {
  const edit = button("Edit", "quiet edit", () => {
    const form = editForm(text, onAsk, () => {
      form.replaceWith(node);
      edit.focus();
    });
    node.replaceWith(form);
    form.querySelector("textarea").focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
  });
  edit.setAttribute("aria-label", "Edit this question");
  return edit;
}

function editForm(text, onAsk, onCancel) {
  const area = element("textarea");
  area.value = text;
  area.required = true;
  area.rows = 3;
  area.setAttribute("aria-label", "Change the question");
  const ask = element("button", ["Ask this instead"], "primary");
  const row = element("div", [button("Cancel", "", onCancel), ask], "ask-row");
  const form = element("form", [area, row], "edit-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (area.value.trim()) onAsk(area.value.trim());
  });
  area.addEventListener("keydown", (event) => event.key === "Escape" && onCancel());
  asksOnEnter(area);
  return form;
}

/** Enter asks, unless an input method is composing; Shift Enter starts a new line. */
export function asksOnEnter(area) {
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    area.form.requestSubmit();
  });
}

function button(label, className, act) {
  const node = element("button", [label], className);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}
