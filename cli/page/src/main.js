// The rich page: reads its document and draws, one part at a time so that the page can be read meanwhile.

import { CHARTS } from "./charts.js";
import { Model } from "./model.js";
import { Network } from "./network.js";
import { Theme } from "./theme.js";

const pause = () => new Promise((resolve) => setTimeout(resolve, 0));

const OF_RECEIPTS = ["latency", "hops", "reach"];

/** The charts that show something else after what a model told. */
function changedBy({ parts, states, forgotten }) {
  if (states) return [];
  if (!parts) return forgotten ? ["latency", "hops"] : OF_RECEIPTS;
  const beside = parts.includes("faults") || parts.includes("reach") || parts.includes("series") ? ["reach", "faults", "series"] : [];
  return Object.keys(CHARTS).filter((key) => parts.includes(key) || beside.includes(key));
}

/** Draw everything of a model into its places. */
async function mount(model, theme) {
  const drawn = {};
  for (const place of document.querySelectorAll("[data-view]")) {
    const key = place.dataset.view;
    await pause();
    drawn[key] = key === "network" ? new Network(place, model, theme) : CHARTS[key](place, model, theme);
    place.dataset.drawn = "yes";
  }
  const { live = false } = model.snapshot;
  model.listen((told) => changedBy(told).forEach((key) => (live ? drawn[key]?.soon() : drawn[key]?.draw())));
  return drawn;
}

/** What holds whatever model is drawn. */
function outlast(page) {
  page.theme.listen(() => Object.entries(page.drawn).forEach(([key, one]) => key === "network" || one.draw()));
  window.addEventListener("beforeprint", () => {
    page.theme.printing = true;
    page.drawn.network?.snapshot();
  });
  window.addEventListener("afterprint", () => (page.theme.printing = false));
  /** Draw another document in the same places. */
  page.renew = async (view) => {
    Object.values(page.drawn).forEach((one) => one.dispose());
    page.model = new Model(view);
    page.drawn = await mount(page.model, page.theme);
  };
  return page;
}

/** Mark the part that is being read in the bar. */
function follow() {
  const links = new Map([...document.querySelectorAll(".bar nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) isIntersecting ? seen.add(target.id) : seen.delete(target.id);
    const first = [...links.keys()].find((key) => seen.has(key));
    for (const [key, link] of links) link.toggleAttribute("aria-current", key === first);
  }, { rootMargin: "-60px 0px -55% 0px" });
  for (const key of links.keys()) {
    const part = document.getElementById(key);
    if (part) watch.observe(part);
    else links.get(key).hidden = true;
  }
}

async function start() {
  const note = document.getElementById("unscripted");
  try {
    const model = new Model(JSON.parse(document.getElementById("view-data").textContent));
    const theme = new Theme(document.getElementById("theme"));
    note.hidden = true;
    follow();
    const drawn = await mount(model, theme);
    globalThis.p2pnetPage = outlast({ model, theme, drawn });
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    note.hidden = false;
    note.textContent = `The drawings failed: ${error.message}. Everything else on this page stands.`;
    document.documentElement.dataset.ready = "failed";
    console.error(error);
  }
}

requestAnimationFrame(() => setTimeout(start, 0));
