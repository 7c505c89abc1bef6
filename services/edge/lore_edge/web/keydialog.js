/** The dialog that asks for an API key. */

const byId = (id) => document.getElementById(id);

/** Resolves to the key, or to null when the person closes the dialog. */
export function askForKey(problem) {
  const dialog = byId("key-dialog");
  const field = byId("key");
  field.value = "";
  byId("key-problem").textContent = problem;
  byId("key-problem").hidden = !problem;
  dialog.returnValue = "";
  byId("key-not-now").onclick = () => dialog.close();
  dialog.showModal();
  return new Promise((done) => {
    const closed = () => {
      const key = dialog.returnValue === "use" ? field.value.trim() : "";
      field.value = "";
      done(key || null);
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}
