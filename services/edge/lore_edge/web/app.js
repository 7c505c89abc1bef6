/** The page: asking, opening an answer by its link, and this browser's earlier questions. */

import { AnswerView } from "./answer.js";
import { BASE } from "./base.js";
import { Credentials } from "./credentials.js";
import * as history from "./history.js";
import { askForKey } from "./keydialog.js";
import { LoreStream } from "./lore.js";
import { Panel } from "./panel.js";
import { words } from "./words.js";

const REQUEST_ID = /^[\w-]{16,128}$/;
const byId = (id) => document.getElementById(id);

const panel = new Panel();
const answer = new AnswerView({ onNew: () => navigate("./"), onRevived: () => panel.poll() });
let edges = [BASE];
/** Null where nobody is asked who they are. */
let credentials = null;
let shown = null;
/** The request that the address names; null for the form, undefined before the first look. */
let place;

const configured = configure();

async function configure() {
  const config = await loadConfig();
  edges = edgesFrom(config.edges ?? []);
  if (config.auth) credentials = new Credentials(askForKey);
  byId("model").textContent = config.model ?? "";
  byId("model").title = config.model ? "The model that answers" : "";
  panel.canSwitch = edges.length > 1;
}

async function loadConfig() {
  try {
    return await (await fetch(`${BASE}/web/config.json`)).json();
  } catch {
    return {};
  }
}

/** The edge that served the page comes first; the others follow in their order. */
function edgesFrom(urls) {
  const at = urls.indexOf(BASE);
  return at === -1 ? [BASE, ...urls] : [...urls.slice(at), ...urls.slice(0, at)];
}

function listen() {
  const question = byId("question");
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(question.value.trim());
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("ask-form").requestSubmit();
  });
  byId("examples").addEventListener("click", (event) => {
    if (event.target.matches("button")) ask(event.target.textContent);
  });
  byId("history-clear").addEventListener("click", () => {
    history.clear();
    showHistory();
    question.focus();
  });
  byId("brand").addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    navigate("./");
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  addEventListener("popstate", route);
  addEventListener("hashchange", route);
}

/** Go to a place of this page, without loading it again. */
function navigate(url) {
  window.history.pushState(null, "", url);
  route();
}

/** Show what the address names: a request, or the question form. */
async function route() {
  await configured;
  const named = location.hash.slice(1);
  const id = REQUEST_ID.test(named) ? named : null;
  if (id === place) return;
  if (place !== undefined) byId("question").value = ""; // what was typed before the first look stays
  place = id;
  if (id === null) showAsk();
  else show(new LoreStream({ urls: edges, requestId: id, credentials }), history.titleOf(id));
}

async function ask(question) {
  if (!question) return;
  await configured;
  const stream = new LoreStream({ urls: edges, create: { question }, credentials });
  stream.addEventListener("created", ({ detail }) => {
    history.remember(detail.request_id, question);
    if (shown !== stream) return;
    place = detail.request_id;
    window.history.pushState(null, "", `#${place}`);
  });
  show(stream, question);
}

async function show(stream, title) {
  leave();
  credentials?.reconsider();
  shown = stream;
  byId("ask").hidden = true;
  answer.show(stream, title);
  panel.attach(stream);
  scrollTo(0, 0);
  byId("title").focus({ preventScroll: true });
  try {
    await stream.connect();
  } catch (error) {
    if (shown === stream) refused(title, error);
  }
}

/** The question was not taken: back to the form, with the question still in it. */
function refused(question, error) {
  showAsk();
  byId("question").value = question;
  byId("ask-problem").textContent = words(error);
  byId("ask-problem").hidden = false;
}

function leave() {
  shown?.disconnect();
  shown = null;
  answer.leave();
  panel.detach();
  byId("ask-problem").hidden = true;
}

function showAsk() {
  leave();
  document.title = "Lore";
  byId("ask").hidden = false;
  // On a phone the focus would open the keyboard over the page.
  if (matchMedia("(pointer: fine)").matches) byId("question").focus();
  showHistory();
}

function showHistory() {
  const list = history.entries();
  byId("history").hidden = list.length === 0;
  byId("history-list").replaceChildren(
    ...list.map(({ id, title }) => {
      const link = document.createElement("a");
      link.href = `#${id}`;
      link.textContent = title;
      const item = document.createElement("li");
      item.append(link);
      return item;
    }),
  );
}

listen();
route();
