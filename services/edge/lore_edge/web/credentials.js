/** The API key for this Lore: asked for when first needed, and kept for this tab alone. */

const STORED = "lore.key";

const NOT_VALID = "This key is not valid, or has expired. Check that you copied all of it, or ask for a new one.";
/** A character that a header cannot contain. */
const NO_KEY = /[^!-~]/;

export class Credentials {
  /**
   * @param {(problem: string) => Promise<string|null>} ask asks the person for a key and shows what
   *   was wrong with the last one; null when they decline
   */
  constructor(ask) {
    this.#ask = ask;
  }

  #ask;
  #key = stored();
  #asking = null;
  #declined = false;

  /** The person does something new, so they may be asked again. */
  reconsider() {
    this.#declined = false;
  }

  /** Whether there are credentials without asking. */
  get areThere() {
    return this.#key !== null;
  }

  /** The headers of a call; none when there is no key. */
  async headers() {
    const key = this.#key ?? (await this.#obtain(""));
    return key ? { Authorization: `Bearer ${key}` } : {};
  }

  /** A call with these headers was refused. Resolves to whether to try again. */
  async refused({ Authorization: used }) {
    if (used === `Bearer ${this.#key}`) this.#keep(null);
    if (this.#key) return true; // another call has got a new key meanwhile
    return Boolean(await this.#obtain(used ? NOT_VALID : ""));
  }

  async #sendable(problem) {
    const key = await this.#ask(problem);
    return key && NO_KEY.test(key) ? this.#sendable(NOT_VALID) : key;
  }

  /** Ask for a key; all callers that need one wait for the same dialog. */
  #obtain(problem) {
    if (this.#declined) return null;
    this.#asking ??= this.#sendable(problem).then((key) => {
      this.#asking = null;
      this.#declined = !key;
      this.#keep(key);
      return key;
    });
    return this.#asking;
  }

  #keep(key) {
    this.#key = key;
    try {
      if (key) sessionStorage.setItem(STORED, key);
      else sessionStorage.removeItem(STORED);
    } catch {
      // The browser refuses to keep it: it is asked for again after a reload.
    }
  }
}

function stored() {
  try {
    return sessionStorage.getItem(STORED);
  } catch {
    return null;
  }
}
