/** The API key that this Lore wants: asked for when first needed, kept for this tab alone. */

const STORED = "lore.key";

const NOT_VALID = "That key is not valid here, or no longer. Check that it is whole, or ask for a new one.";
/** What a header cannot carry. */
const NO_KEY = /[^!-~]/;

export class Credentials {
  /**
   * @param {(problem: string) => Promise<string|null>} ask asks the person for a key and says
   *   what was wrong with the last one; null when they would rather not
   */
  constructor(ask) {
    this.#ask = ask;
  }

  #ask;
  #key = stored();
  #asking = null;
  #declined = false;

  /** The person does something anew: they may be asked again. */
  reconsider() {
    this.#declined = false;
  }

  /** Whether there are some without asking. */
  get areThere() {
    return this.#key !== null;
  }

  /** The headers that a call has to carry; none when there is no key to be had. */
  async headers() {
    const key = this.#key ?? (await this.#obtain(""));
    return key ? { Authorization: `Bearer ${key}` } : {};
  }

  /** A call with these headers was refused. Whether another try may do better. */
  async refused({ Authorization: used }) {
    if (used === `Bearer ${this.#key}`) this.#keep(null);
    if (this.#key) return true; // another call has got a new one meanwhile
    return Boolean(await this.#obtain(used ? NOT_VALID : ""));
  }

  async #sendable(problem) {
    const key = await this.#ask(problem);
    return key && NO_KEY.test(key) ? this.#sendable(NOT_VALID) : key;
  }

  /** All who need a key wait for one question. */
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
      // Refused: it is asked for again after a reload.
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
