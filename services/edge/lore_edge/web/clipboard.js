/** Copying, and saying so. */

const SAID_MS = 1500;

/** Said once, politely: the page announces how an answer fares, never its single words. */
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

/** Copies, and has the button say so for a moment. One that has no text says it by its style. */
export async function copy(button, text) {
  const label = (button.dataset.label ??= button.textContent);
  const said = (await toClipboard(text)) ? "Copied" : "Could not copy";
  if (label) button.textContent = said;
  else button.dataset.said = said;
  announce(said);
  setTimeout(() => {
    if (label) button.textContent = label;
    else delete button.dataset.said;
  }, SAID_MS);
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The clipboard API is missing on plain http other than localhost.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "sr";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
