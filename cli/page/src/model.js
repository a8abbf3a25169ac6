// A run as the page knows it: a snapshot, and receipts that are appended to it. A page that is fed while a run goes on
// appends batches as they come; the page of a report has them all in its document, in the same form.

import * as aggregates from "./aggregates.js";

export const SCHEMA = "p2pnet.io/view/v1";

/** Who got one artifact when, from whom. Nodes are numbers; times are microseconds since the publication. */
export class Journey {
  constructor(nodes, publisher, publishedUs) {
    this.publisher = publisher;
    this.publishedUs = publishedUs;
    this.arrival = new Float64Array(nodes).fill(NaN);
    this.hop = new Uint16Array(nodes);
    this.from = new Int32Array(nodes).fill(-1);
    this.duplicates = new Uint32Array(nodes);
    /** Nodes in the order of arrival. */
    this.order = [];
    this.parents = null;
  }

  /** Take in receipts, in any order; the first of each node counts. */
  append(batch) {
    let sorted = true;
    this.parents = null;
    batch.node.forEach((node, index) => {
      const at = batch.after_us[index];
      if (node === this.publisher || !(node >= 0 && node < this.arrival.length)) return;
      if (!Number.isNaN(this.arrival[node])) {
        if (this.arrival[node] <= at) return;
        this.order.splice(this.order.indexOf(node), 1);
      }
      this.arrival[node] = at;
      this.hop[node] = batch.hop[index];
      this.from[node] = batch.from[index];
      this.duplicates[node] = batch.duplicates?.[index] ?? 0;
      const last = this.order.at(-1);
      if (last !== undefined && this.arrival[last] > at) sorted = false;
      this.order.push(node);
    });
    if (!sorted) this.order.sort((a, b) => this.arrival[a] - this.arrival[b] || a - b);
  }

  /** The time of the last receipt; 0 without any. */
  get spanUs() {
    return this.order.length ? Math.max(0, this.arrival[this.order.at(-1)]) : 0;
  }

  has(node) {
    return node === this.publisher || !Number.isNaN(this.arrival[node]);
  }

  /** When a node had it; NaN: never. */
  at(node) {
    return node === this.publisher ? 0 : this.arrival[node];
  }

  /** How many receipts had come by then. */
  reachedBy(us) {
    let low = 0;
    let high = this.order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.arrival[this.order[middle]] <= us) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Who passed it on to a node: null where that is not known. */
  parent(node) {
    this.parents ??= this.#parents();
    const parent = this.parents[node];
    return parent < 0 ? null : parent;
  }

  /**
   * By the rule of cli/p2pnet/measure/tree.py: who completed it at a node, if that had it before, or over fewer hops, for then
   * it passed parts on before it had validated all; a circle is cut at its first receipt.
   */
  #parents() {
    const found = new Int32Array(this.arrival.length).fill(-1);
    for (const node of this.order) {
      const from = this.from[node];
      if (from < 0 || from === node || !this.has(from)) continue;
      const hop = from === this.publisher ? 0 : this.hop[from];
      if (this.at(from) <= this.arrival[node] || hop < this.hop[node]) found[node] = from;
    }
    const walked = new Int32Array(found.length).fill(-1);
    for (let start = 0; start < found.length; start++) {
      let node = start;
      while (node >= 0 && found[node] >= 0 && walked[node] < 0) {
        walked[node] = start;
        node = found[node];
      }
      if (node < 0 || found[node] < 0 || walked[node] !== start) continue;
      let first = node;
      for (let one = found[node]; one !== node; one = found[one]) {
        if (this.arrival[one] < this.arrival[first] || (this.arrival[one] === this.arrival[first] && one < first)) first = one;
      }
      found[first] = -1;
    }
    return found;
  }

  /** From the sender's receipt to the node's own, in microseconds; null where it is not known, or would be negative. */
  wait(node) {
    const parent = this.parent(node);
    const wait = parent === null ? -1 : this.arrival[node] - this.at(parent);
    return wait < 0 ? null : wait;
  }

  /** From the publisher (or the first that is known) to a node. */
  path(node) {
    const path = [node];
    for (let next = this.parent(node); next !== null; next = this.parent(next)) path.push(next);
    return path.reverse();
  }
}

export class Model {
  #appended = false;
  #listeners = new Set();

  constructor(snapshot) {
    if (snapshot.schema !== SCHEMA) throw new Error(`this page reads ${SCHEMA}, not ${snapshot.schema}`);
    this.snapshot = snapshot;
    this.nodes = snapshot.nodes?.name ?? [];
    /** Nodes that do not behave: no receipt of theirs is expected. */
    this.away = new Set(snapshot.nodes?.adversaries ?? []);
    /** By node that takes part in nothing now, the state it is in. */
    this.down = new Map();
    const { publisher = [], at_us: at = [] } = snapshot.artifacts ?? {};
    this.journeys = publisher.map((node, index) => new Journey(this.nodes.length, node, at[index] ?? null));
    for (const batch of snapshot.events ?? []) this.journeys[batch.artifact].append(batch);
  }

  /** Take in events of a run that goes on: `{artifact, node, after_us, hop, from}`, columns of one artifact. */
  append(batch) {
    const journey = this.journeys[batch.artifact];
    if (!journey) throw new Error(`no artifact ${batch.artifact} was announced`);
    journey.append(batch);
    this.#appended = true;
    this.#tell(batch);
  }

  /** Receipts that are expected of an artifact: of all nodes that behave, but its publisher. */
  expected(journey) {
    const honest = this.nodes.length - this.away.size;
    return honest - (journey.publisher >= 0 && !this.away.has(journey.publisher) ? 1 : 0);
  }

  /** What is shown before anything was published. */
  get blank() {
    return new Journey(this.nodes.length, -1, null);
  }

  /** What a node does wrong; empty where it is honest. */
  behaviour(node) {
    const { adversaries = [], behaviours = [] } = this.snapshot.nodes ?? {};
    return this.away.has(node) ? (behaviours[adversaries.indexOf(node)] ?? "not honest") : "";
  }

  /** Take in parts of the snapshot anew, whole, by name. */
  update(parts) {
    Object.assign(this.snapshot, parts);
    this.#tell({ artifact: -1, node: [], parts: Object.keys(parts) });
  }

  /** Take in which nodes are down: numbers of nodes by state. */
  tellStates(states) {
    this.down = new Map(Object.entries(states).flatMap(([state, nodes]) => nodes.map((node) => [node, state])));
    this.#tell({ artifact: -1, node: [], states: true });
  }

  /** Let go of so many artifacts, the oldest ones: the numbers of the others become less by as much. */
  forget(many) {
    const { artifacts } = this.snapshot;
    for (const key of ["id", "name", "publisher", "size", "at_us"]) artifacts[key].splice(0, many);
    this.journeys.splice(0, many);
    this.#tell({ artifact: -1, node: [], forgotten: many });
  }

  #tell(batch) {
    for (const tell of this.#listeners) tell(batch);
  }

  /** A new artifact: `{id, name, publisher, at_us, size}`; its number. */
  announce({ id, name = "", publisher, at_us: at = null, size = 0 }) {
    const known = (this.snapshot.artifacts ??= { id: [], name: [], publisher: [], size: [], at_us: [], total: 0 });
    known.id.push(id);
    known.name.push(name);
    known.publisher.push(publisher);
    known.size.push(size);
    known.at_us.push(at);
    known.total += 1;
    this.journeys.push(new Journey(this.nodes.length, publisher, at));
    this.#appended = true;
    this.#tell({ artifact: this.journeys.length - 1, node: [] });
    return this.journeys.length - 1;
  }

  /** Be told of every batch that is appended; a new artifact is one without receipts. */
  listen(tell) {
    this.#listeners.add(tell);
    return () => this.#listeners.delete(tell);
  }

  latency() {
    const { curves = [], limits = [] } = this.snapshot.latency ?? {};
    if (!this.#appended) return { curves, limits };
    const points = aggregates.curve(this.journeys);
    const expected = this.journeys.reduce((sum, journey) => sum + this.expected(journey), 0);
    const came = this.journeys.reduce((sum, journey) => sum + journey.order.length, 0);
    const own = { ...curves[0], points_ms: points, expected, reach: expected ? came / expected : null };
    return { curves: [own, ...curves.slice(1)], limits };
  }

  hops() {
    return this.#appended ? aggregates.hops(this.journeys) : (this.snapshot.hops ?? []);
  }

  reach() {
    const { live = false, reach = null } = this.snapshot;
    return this.#appended && !live ? aggregates.reach(this.journeys, (journey) => this.expected(journey)) : reach;
  }
}
