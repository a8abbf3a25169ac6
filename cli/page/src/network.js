// The network of one artifact at a time: how it spread, in four layouts, with a time control and what one node knows.

import { choice, element, select } from "./dom.js";
import { Drawing, FAINT_MAX, canDraw } from "./drawing.js";
import { bytes, count, ms, plural } from "./format.js";
import * as layouts from "./layouts.js";
import { Pace } from "./pace.js";
import { Scrubber } from "./scrubber.js";
import { ofHop } from "./theme.js";

const NAMES_MAX = 500; // offered while a name is typed
const KEYS = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };

export class Network {
  constructor(place, model, theme) {
    Object.assign(this, { place, model, theme, layout: "tree", wanted: "tree", newest: true, chosen: -1 });
    if (!canDraw()) {
      place.replaceChildren(element("p", { class: "empty" }, "This browser offers no WebGL: the network is not drawn. The tables tell who was slow, and why."));
      return;
    }
    this.#begin();
    this.deaf = theme.listen(() => this.drawing && (this.drawing.paint(), this.scrubber.redraw(), this.#legend()));
    model.listen((batch) => this.#appended(batch));
  }

  dispose() {
    this.deaf?.();
    this.pace?.stop();
    this.drawing?.sigma.kill();
    this.drawing = null;
  }

  /** Draw as soon as there is something to follow. */
  #begin() {
    const { nodes, journeys, snapshot: { artifacts, live = false } } = this.model;
    if (!nodes.length || !(journeys.length || live)) {
      this.place.replaceChildren(element("p", { class: "empty" }, "No artifact was published: there is nothing to follow."));
      return;
    }
    this.#build(artifacts);
    this.show(journeys.length ? (artifacts.first ?? 0) : -1);
  }

  #appended(batch) {
    if (batch.states) return this.drawing && this.#marked();
    if (batch.forgotten) return this.drawing && this.#forget(batch.forgotten);
    if (batch.artifact < 0) return;
    if (!this.drawing) return this.#begin();
    if (this.artifact < 0) this.artifacts.replaceChildren();
    if (batch.artifact >= this.artifacts.length) this.artifacts.append(element("option", { value: batch.artifact }, this.#label(batch.artifact)));
    const { length } = this.model.journeys;
    if (this.artifact < 0) this.show(batch.artifact);
    else if (this.model.snapshot.live) this.#soon(batch.artifact === this.artifact || (this.newest && length - 1 > this.artifact));
    else if (batch.artifact === this.artifact) this.#grown();
  }

  /** Of a run that goes on: whoever looks at the newest artifact goes on to the next one; one that was chosen stays. */
  #soon(wanted) {
    if (!wanted) return;
    this.pace ??= new Pace(() => {
      const last = this.model.journeys.length - 1;
      if (this.newest && this.artifact < last) this.show(last, { stay: true });
      else this.#grown();
    }, this.place);
    this.pace.ask();
  }

  /** The artifact that is shown has more receipts: the view stays as it is. */
  #grown() {
    this.drawing.show(this.journey);
    this.arrange(this.layout, { stay: true });
    this.scrubber.grown(this.model.expected(this.journey));
    this.#legend();
    this.#facts();
    this.#tell();
  }

  #forget(many) {
    this.artifacts.replaceChildren(...this.model.journeys.map((_, index) => element("option", { value: index }, this.#label(index))));
    if (this.artifact >= many) {
      this.artifact -= many;
      this.artifacts.value = String(this.artifact);
    } else this.show(this.model.journeys.length - 1);
  }

  /** Other nodes are down. */
  #marked() {
    this.drawing.at(this.scrubber.us);
    this.#legend();
    this.#facts();
  }

  #label(index) {
    const { id, name } = this.model.snapshot.artifacts;
    return `${name[index] ? `${name[index]} ` : ""}${id[index].slice(0, 12)}`;
  }

  #build(artifacts) {
    this.canvas = element("div", {
      class: "network", tabindex: 0, role: "application",
      "aria-label": "The network. Arrow keys move the picture, plus and minus zoom, 0 shows all of it.",
      onkeydown: (event) => this.#key(event),
    });
    this.place.replaceChildren(this.#controls(artifacts), this.canvas);
    this.scrubber = new Scrubber(this.theme, (us, came) => this.#moved(us, came));
    this.legend = element("div", { class: "legend" });
    this.facts = element("dl", { class: "facts picked", "aria-live": "polite" });
    this.said = element("p", { class: "hint" });
    this.paper = element("img", { class: "paper", alt: "The network as it was shown." });
    this.place.append(this.paper, this.scrubber.box, this.legend, this.facts, this.said);
    this.drawing = new Drawing(this.canvas, this.model, this.theme, (node) => this.pick(node));
    this.canvas.append(this.#zoom());
    this.width = this.canvas.clientWidth;
    new ResizeObserver(() => this.#resized()).observe(this.canvas);
  }

  #controls(artifacts) {
    const picker = select("Artifact", artifacts.id.map((_, index) => [index, this.#label(index)]), (value) => {
      this.newest = Number(value) === this.model.journeys.length - 1;
      this.show(Number(value));
    });
    this.artifacts = picker.input;
    const { earth } = this.model.snapshot.layouts;
    const kinds = choice("layout", "Layout", [
      ["tree", "Hop tree"], ["rings", "Latency rings"], ["links", "By links"],
      ["earth", "Map", earth ? "" : "No place on earth is known of these nodes"],
    ], this.layout, (kind) => ((this.wanted = kind), this.arrange(kind)));
    this.layouts = kinds.inputs;
    const names = element("datalist", { id: "node-names" }, ...this.model.nodes.slice(0, NAMES_MAX).map((value) => element("option", { value })));
    const find = element("input", {
      type: "search", list: "node-names", placeholder: "node", size: 12, autocomplete: "off", spellcheck: "false",
      oninput: () => (find.value ? this.#find(find.value) : this.pick(-1)),
    });
    this.find = find;
    const critical = element("input", { type: "checkbox", onchange: () => this.drawing.showCritical(critical.checked) });
    return element("div", { class: "controls" }, picker.box, kinds.box,
      element("label", { class: "field" }, element("span", {}, "Find"), find, names),
      element("label", { class: "field" }, critical, element("span", {}, "critical path")));
  }

  /** A tree fills its picture, whatever shape that has. */
  #resized() {
    const width = this.canvas.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    this.drawing.sigma.resize();
    this.drawing.fitLabels(width);
    if (this.layout === "tree") this.arrange("tree");
    else this.drawing.sigma.refresh();
  }

  #zoom() {
    const button = (text, label, act) => element("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    return element("div", { class: "zoom" }, button("+", "Zoom in", () => this.#zoomBy(1 / 1.5)), button("\u2212", "Zoom out", () => this.#zoomBy(1.5)),
      button("\u2922", "Show all", () => this.#camera({ x: 0.5, y: 0.5, ratio: 1 })));
  }

  #zoomBy(factor) {
    const camera = this.drawing.sigma.getCamera();
    this.#camera({ ratio: camera.getBoundedRatio(camera.ratio * factor) });
  }

  #camera(state) {
    this.drawing.sigma.getCamera().setState(state);
  }

  #key(event) {
    if (event.target !== this.canvas || event.ctrlKey || event.metaKey || event.altKey) return;
    const camera = this.drawing.sigma.getCamera();
    if (event.key in KEYS) {
      const [x, y] = KEYS[event.key];
      this.#camera({ x: camera.x + x * camera.ratio, y: camera.y + y * camera.ratio });
    } else if (event.key === "+" || event.key === "=") this.#zoomBy(1 / 1.5);
    else if (event.key === "-") this.#zoomBy(1.5);
    else if (event.key === "0") this.#camera({ x: 0.5, y: 0.5, ratio: 1 });
    else if (event.key === "Escape") this.pick(-1);
    else return;
    event.preventDefault();
  }

  #find(text) {
    const wanted = text.trim().toLowerCase();
    const names = this.model.nodes;
    const exact = names.findIndex((name) => name.toLowerCase() === wanted);
    this.pick(exact >= 0 ? exact : -1);
  }

  /** The number of the drawn artifact to show; -1: there is none yet. */
  show(artifact, { stay = false } = {}) {
    const none = artifact < 0;
    this.artifact = artifact;
    this.artifacts.value = String(artifact);
    this.artifacts.disabled = none;
    if (none) this.artifacts.replaceChildren(element("option", { value: -1 }, "none yet"));
    this.journey = none ? this.model.blank : this.model.journeys[artifact];
    this.drawing.show(this.journey);
    this.arrange(none ? "links" : this.wanted, { stay });
    this.scrubber.box.hidden = none;
    if (none) this.scrubber.journey = null;
    else this.scrubber.show(this.journey, this.model.expected(this.journey));
    this.#legend();
    this.#facts();
    this.#tell();
  }

  #aspect() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return width && height ? Math.max(0.4, Math.min(2.4, (width - (width > 700 ? 120 : 80)) / height)) : 1;
  }

  arrange(kind, { stay = false } = {}) {
    this.layout = kind;
    this.layouts.get(kind).checked = true;
    const many = this.model.nodes.length;
    const known = this.model.snapshot.layouts;
    const places = kind === "tree" ? layouts.hopTree(this.journey, many, this.#aspect()) : kind === "rings" ? layouts.rings(this.journey, many) : known[kind];
    this.drawing.arrange(places, kind, { stay });
    this.canvas.dataset.layout = kind;
  }

  pick(node) {
    this.chosen = node;
    this.drawing.choose(node);
    if (document.activeElement !== this.find) this.find.value = node >= 0 ? this.model.nodes[node] : "";
    this.#facts();
  }

  #moved(us, came) {
    this.drawing.at(us);
    this.canvas.dataset.us = Math.round(us);
    this.canvas.dataset.reached = came;
  }

  #facts() {
    const { chosen: node, journey, model } = this;
    const facts = [];
    if (node >= 0) {
      const { group, groups } = model.snapshot.nodes;
      facts.push(["Node", `${model.nodes[node]}${groups.length > 1 ? `, of ${groups[group[node]]}` : ""}`]);
      if (model.down.has(node)) facts.push(["State", model.down.get(node)]);
      if (model.behaviour(node)) facts.push(["Behaviour", `${model.behaviour(node)}: no receipt of it is expected`]);
      if (node === journey.publisher) facts.push(["Received", "it published the artifact"]);
      else if (!journey.has(node)) {
        if (this.artifact >= 0 && !model.behaviour(node)) facts.push(["Received", model.snapshot.live ? "not yet" : "never"]);
      }
      else {
        const parent = journey.parent(node);
        const from = journey.from[node] >= 0 ? model.nodes[journey.from[node]] : "unknown";
        facts.push(["Received", `after ${ms(journey.at(node) / 1000)}, at hop ${journey.hop[node]}`]);
        const wait = journey.wait(node);
        const when = parent === null ? "" : wait === null ? ", which passed it on before it had validated it" : `, ${ms(wait / 1000)} after that had it`;
        facts.push(["From", `${from}${when}`]);
        facts.push(["Way", journey.path(node).map((one) => model.nodes[one]).join(" \u2192 ")]);
        if (journey.duplicates[node]) facts.push(["Duplicates", count(journey.duplicates[node])]);
      }
    }
    this.facts.hidden = !facts.length;
    this.facts.replaceChildren(...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  }

  #legend() {
    const colours = this.theme.colours;
    const dot = (colour, text) => element("span", {}, element("i", { style: `background:${colour}` }), text);
    const { most } = this.drawing;
    const shades = Array.from({ length: Math.min(most, colours.ramp.length) }, (_, index) => ofHop(colours.ramp, index + 1, Math.min(most, colours.ramp.length)));
    const hops = element("span", {}, "hop 1", ...shades.map((one) => element("i", { style: `background:${one}` })), `${most}`);
    const { away, down, snapshot: { live } } = this.model;
    const shaped = (sign, text) => element("span", {}, element("b", { "aria-hidden": "true" }, sign), text);
    const beside = [...(down.size ? [shaped("\u2715", `${plural(down.size, "node")} not running`)] : []),
      ...(away.size ? [shaped("\u25c7", `${plural(away.size, "node")} that ${away.size === 1 ? "does" : "do"} not behave`)] : [])];
    if (this.artifact < 0) return this.legend.replaceChildren(...beside);
    const missing = !live && this.journey.order.length < this.model.expected(this.journey);
    this.legend.replaceChildren(dot(colours.accent, "publisher"), this.drawing.most > 1 ? hops : dot(colours.ramp[1], "has it"),
      dot(colours.hot, "carrying, just received"), dot(this.drawing.colours.waiting, "waits"), ...(missing ? [dot(colours.fail, "never got it")] : []), ...beside);
  }

  #tell() {
    const { artifacts, links, live = false } = this.model.snapshot;
    const which = live ? "the last ones" : "the slowest among them; all figures are of all";
    const said = [];
    const size = artifacts.size[this.artifact];
    if (this.artifact < 0) said.push("Nothing was published yet.");
    else if (!this.journey.order.length) said.push("No receipt of this artifact is on record.");
    else if (size) said.push(`${bytes(size)} from ${this.model.nodes[this.journey.publisher] ?? "a node that is not on record"}.`);
    if (artifacts.id.length < artifacts.total) said.push(`${count(artifacts.id.length)} of ${plural(artifacts.total, "artifact")} can be chosen, ${which}.`);
    const shown = links.pairs.length / 2;
    if (!links.total) said.push("No link between these nodes is known.");
    else if (shown > FAINT_MAX) said.push(`${plural(links.total, "link")}: only those that carried the artifact are drawn.`);
    else if (!links.known) said.push("Links that carried nothing in this run are not known.");
    this.said.textContent = said.join(" ");
  }

  /** For paper. */
  snapshot() {
    if (this.drawing) this.paper.src = this.drawing.picture();
  }
}
