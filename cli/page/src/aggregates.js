// What is drawn of many receipts: the same sums that the report carries, made anew once a run has appended events.

export const CURVE_POINTS = 400;
export const BINS = 240;

/** At most so many of the values, at equal distances, the first and the last among them. */
export function thinned(values, most) {
  if (values.length <= most) return [...values];
  return Array.from({ length: most }, (_, index) => values[Math.round((index * (values.length - 1)) / (most - 1))]);
}

/** The latencies (ms) at equal shares of the receipts that came. */
export function curve(journeys) {
  const all = journeys.flatMap((journey) => journey.order.map((node) => journey.arrival[node] / 1000));
  return thinned(all.sort((a, b) => a - b), CURVE_POINTS);
}

/** By hop: how many receipts, and least, quartiles and most of their latencies and waits, by nearest rank. */
export function hops(journeys) {
  const found = new Map();
  for (const journey of journeys) {
    for (const node of journey.order) {
      const hop = journey.hop[node];
      if (!found.has(hop)) found.set(hop, { since: [], waits: [] });
      found.get(hop).since.push(journey.arrival[node] / 1000);
      const wait = journey.wait(node);
      if (wait !== null) found.get(hop).waits.push(wait / 1000);
    }
  }
  return [...found].sort(([a], [b]) => a - b).map(([hop, { since, waits }]) => ({
    hop, count: since.length, since_ms: spread(since), wait_ms: waits.length ? spread(waits) : null,
  }));
}

function spread(values) {
  const ordered = [...values].sort((a, b) => a - b);
  return [0, 1, 2, 3, 4].map((quarter) => ordered[Math.max(0, Math.ceil((quarter * ordered.length) / 4) - 1)]);
}

/** Receipts due (`expected(journey)` of each) and received by the end of each of BINS parts of the time since the first publication. */
export function reach(journeys, expected) {
  const known = journeys.filter((journey) => journey.publishedUs !== null);
  if (!known.length) return null;
  const times = known.flatMap((journey) => journey.order.map((node) => journey.publishedUs + journey.arrival[node]));
  const span = Math.max(1, ...known.map((journey) => journey.publishedUs), times.reduce((a, b) => Math.max(a, b), 0));
  const due = new Array(BINS).fill(0);
  const received = new Array(BINS).fill(0);
  const bin = (at) => Math.max(0, Math.min(BINS - 1, Math.ceil((at * BINS) / span) - 1));
  for (const journey of known) due[bin(journey.publishedUs)] += expected(journey);
  for (const at of times) received[bin(at)] += 1;
  return { span_s: span / 1e6, due: summed(due), received: summed(received) };
}

function summed(counts) {
  let total = 0;
  return counts.map((one) => (total += one));
}
