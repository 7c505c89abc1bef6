/** Copying, and telling the person about it. */

const SAID_MS = 1500;

/** Announce a text once, politely. The page announces an answer's state, never its single words. */
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

/** Copy, and show that on the button for a moment. A button without text shows it by its style. */
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
    // The clipboard API is missing on plain HTTP other than localhost.
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
