/** The page: asking, opening a conversation by its link, and this browser's earlier ones. */

import { AnswerView } from "./answer.js";
import { BASE } from "./base.js";
import { bodyOf, turnsOf } from "./conversation.js";
import { Credentials } from "./credentials.js";
import { lookForGone, showHistory } from "./earlier.js";
import * as history from "./history.js";
import { askForKey } from "./keydialog.js";
import { LoreStream } from "./client/lore.js";
import { Panel } from "./panel.js";
import { asksOnEnter } from "./question.js";
import { canShare } from "./share.js";
import { words } from "./words.js";

const REQUEST_ID = /^[\w-]{16,128}$/;
const byId = (id) => document.getElementById(id);
/** The pause before the question is looked up again. Streams retry by themselves. */
const RETRY_MS = 3000;
const MAX_RETRIES = 100;

const panel = new Panel();
const answer = new AnswerView({
  onNew: () => navigate("./"),
  onRevived: () => panel.poll(),
  onAsk: (question, earlier) => ask(question, earlier),
});
let edges = [BASE];
/** Null where edges need no authentication. */
let credentials = null;
let shown = null;
/** The request in the address; null for the form, undefined before the first look. */
let place;

const configured = configure();

async function configure() {
  const config = await loadConfig();
  edges = edgesFrom(config.edges ?? []);
  if (config.auth) credentials = new Credentials(askForKey);
  byId("model").textContent = config.model ?? "";
  byId("model").title = config.model ? "The model that answers" : "";
  panel.canSwitch = edges.length > 1;
  answer.canShare = canShare(location, Boolean(config.auth));
}

async function loadConfig() {
  try {
    return await (await fetch(`${BASE}/web/config.json`)).json();
  } catch {
    return {};
  }
}

/** The edges, the one that served the page first. */
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
  asksOnEnter(question);
  byId("examples").addEventListener("click", (event) => {
    if (event.target.matches("button")) ask(event.target.textContent);
  });
  byId("history-clear").addEventListener("click", () => {
    history.clear();
    showHistory(ask);
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

/** Go to another address of this page, without loading it again. */
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
  if (place !== undefined) byId("question").value = ""; // keep what was typed before the first look
  place = id;
  if (id === null) showAsk();
  else open(id);
}

function open(id) {
  const stream = new LoreStream({ urls: edges, requestId: id, credentials });
  show(stream, { question: history.questionOf(id) }); // ask again a person who declined to give a key
  learn(stream);
}

/** Find out the question of an answer that was opened by its link. */
async function learn(stream, retries = MAX_RETRIES) {
  try {
    const conversation = turnsOf(await stream.messages());
    if (shown === stream) answer.tell(conversation);
    if (shown === stream && conversation.earlier.length) answer.focus();
  } catch ({ code }) {
    // The stream shows other errors itself. Only an unreachable edge is asked again.
    if (shown !== stream || code !== "unreachable" || retries === 0) return;
    setTimeout(() => learn(stream, retries - 1), RETRY_MS);
  }
}

/** @param {{question: string, answer: string}[]} earlier the turns before it */
async function ask(question, earlier = []) {
  if (!question) return;
  await configured;
  const before = earlier.length || shown ? place : null;
  const stream = new LoreStream({ urls: edges, create: bodyOf(question, earlier), credentials });
  stream.addEventListener("created", ({ detail }) => {
    const questions = [...earlier, { question }].map((turn) => turn.question).filter(Boolean);
    history.remember(detail.request_id, questions, before);
    if (shown !== stream) return;
    place = detail.request_id;
    window.history.pushState(null, "", `#${place}`);
  });
  show(stream, { question, earlier });
}

async function show(stream, conversation) {
  leave();
  credentials?.reconsider();
  shown = stream;
  byId("ask").hidden = true;
  answer.show(stream, conversation);
  panel.attach(stream);
  answer.focus();
  try {
    await stream.connect();
  } catch (error) {
    if (shown === stream) refused(conversation, error);
  }
}

/** The question was refused. A first question goes back into its form. */
function refused({ question, earlier }, error) {
  if (earlier?.length || place) return answer.refuse(error);
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
  // On a phone, the focus would open the keyboard over the page.
  if (matchMedia("(pointer: fine)").matches) byId("question").focus();
  showHistory(ask);
  lookForGone(credentials).then((gone) => gone && showHistory(ask, gone));
}

listen();
route();
