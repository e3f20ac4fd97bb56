// Which screen is shown, and the bar above it.
import { get } from "./api.js";
import { duration, el, fill } from "./dom.js";
import { Episode } from "./episode.js";
import { Episodes } from "./episodes.js";
import { Live } from "./live.js";
import { Marks } from "./marks.js";

const LOOK_EVERY_MS = 2000;
const part = (name) => document.getElementById(name);
const marks = new Marks();
let screen = null;

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, index, ...stream] = path.split("/");
  if (screen) screen.close();
  const view = fill(part("view"));
  const live = name === "";
  part("tab-live").toggleAttribute("aria-current", live);
  part("tab-episodes").toggleAttribute("aria-current", !live);
  if (name === "episode") screen = new Episode(view, stream.map(decodeURIComponent).join("/"), index, marks);
  else if (name === "episodes") screen = new Episodes(view, query);
  else {
    screen = new Live(view);
    look();
  }
  scrollTo(0, 0);
}

function showState(now) {
  const { sink, streams, producers } = now;
  const state = part("state");
  const busy = streams.some((stream) => stream.episodes_per_hour > 0);
  const working = producers.length > 0;
  if (sink && sink.trouble) [state.textContent, state.className] = ["the sink does not answer", "state bad"];
  else if (sink && sink.problems.length) [state.textContent, state.className] = ["attention", "state bad"];
  else if (sink) [state.textContent, state.className] = [working ? "collecting" : "waiting for producers", `state ${working ? "good" : ""}`];
  else [state.textContent, state.className] = [busy ? "growing" : "at rest", `state ${busy ? "good" : ""}`];
  if (sink && sink.uptime_s) state.title = `The sink is up for ${duration(sink.uptime_s)}`;
  const name = now.dataset.split("/").filter(Boolean).at(-1) || "/";
  part("dataset").textContent = name;
  part("dataset").title = now.dataset;
  document.title = `${name} · Headrace`;
  const note = (kind) => (text) => el("p", { class: kind }, text);
  const trouble = sink && sink.trouble ? [`The sink at ${sink.address} ${sink.trouble}.`] : [];
  fill(part("notes"), [...trouble, ...((sink && sink.problems) || [])].map(note("bad")), ((sink && sink.warnings) || []).map(note("warning")));
}

let looking = false;

async function look() {
  if (looking || document.hidden) return;
  looking = true;
  try {
    const now = await get("/api/now");
    showState(now);
    marks.update(now);
    if (screen instanceof Live) screen.show(now);
  } catch (error) {
    part("state").textContent = "no contact";
    part("state").className = "state bad";
    fill(part("notes"), el("p", { class: "bad" }, `${error.message[0].toUpperCase()}${error.message.slice(1)}.`));
    marks.failed(error);
  } finally {
    looking = false;
  }
}

addEventListener("hashchange", route);
addEventListener("entered", route);
document.addEventListener("visibilitychange", look);
setInterval(look, LOOK_EVERY_MS);
route();
look();
