// Places that follow from one artifact's journey: its hop tree, and rings of its latencies. Pure: the same journey, the same places.

export const LAYERED_MAX = 64; // nodes; more of them are drawn as a fan, for a row of hundreds is a line
const OUTSIDE = 1.14; // radius of what never came, where the last receipt has 1

/** The order of leaves from left to right, and each node's depth, children in the order of arrival. */
function walked(journey, nodes) {
  const children = new Map();
  const roots = [];
  if (journey.publisher >= 0) roots.push(journey.publisher);
  for (const node of journey.order) {
    const parent = journey.parent(node);
    if (parent === null) roots.push(node);
    else if (children.has(parent)) children.get(parent).push(node);
    else children.set(parent, [node]);
  }
  const place = new Float64Array(nodes).fill(NaN);
  const depth = new Int32Array(nodes).fill(-1);
  let leaves = 0;
  // Depth first without recursion: chains are long. What no root leads to (senders in a circle) begins at its first receipt.
  for (const root of [...roots, ...journey.order]) {
    if (depth[root] >= 0) continue;
    const orphan = root !== journey.publisher && journey.publisher >= 0;
    const stack = [[root, orphan ? 1 : 0, 0]];
    depth[root] = orphan ? 1 : 0;
    while (stack.length) {
      const top = stack.at(-1);
      const below = children.get(top[0]) ?? [];
      if (top[2] < below.length) {
        const child = below[top[2]++];
        if (depth[child] >= 0) continue;
        depth[child] = top[1] + 1;
        stack.push([child, top[1] + 1, 0]);
      } else {
        stack.pop();
        const placed = below.filter((child) => !Number.isNaN(place[child]));
        place[top[0]] = placed.length ? (place[placed[0]] + place[placed.at(-1)]) / 2 : leaves++;
      }
    }
  }
  return { place, depth, leaves: Math.max(1, leaves) };
}

/**
 * x and y by node, in -1 to 1 or a little more. Nodes without a receipt stand apart: below the tree, or around it.
 * `aspect`: how much wider than high the picture is.
 */
export function hopTree(journey, nodes, aspect = 1) {
  const { place, depth, leaves } = walked(journey, nodes);
  const deepest = Math.max(1, depth.reduce((most, one) => Math.max(most, one), 0));
  if (nodes > LAYERED_MAX) return around(journey, nodes, place, leaves, (node) => depth[node] / deepest);
  const at = empty(nodes);
  const apart = [];
  for (let node = 0; node < nodes; node++) {
    if (depth[node] < 0) apart.push(node);
    else {
      at.x[node] = leaves > 1 ? ((place[node] / (leaves - 1)) * 2 - 1) * aspect : 0;
      at.y[node] = 1 - (depth[node] / deepest) * 2;
    }
  }
  apart.forEach((node, index) => {
    at.x[node] = apart.length > 1 ? ((index / (apart.length - 1)) * 2 - 1) * aspect : 0;
    at.y[node] = -1 - 2 / (deepest + 1);
  });
  return at;
}

/** The publisher in the middle, every other node as far out as its latency; subtrees stay side by side. */
export function rings(journey, nodes) {
  const { place, leaves } = walked(journey, nodes);
  const span = journey.spanUs || 1;
  return around(journey, nodes, place, leaves, (node) => Math.max(0, journey.at(node)) / span);
}

function around(journey, nodes, place, leaves, radius) {
  const at = empty(nodes);
  const apart = [];
  for (let node = 0; node < nodes; node++) {
    if (Number.isNaN(place[node])) apart.push(node);
    else {
      const turn = Math.PI / 2 - (2 * Math.PI * place[node]) / leaves;
      const out = radius(node);
      at.x[node] = Math.cos(turn) * out;
      at.y[node] = Math.sin(turn) * out;
    }
  }
  apart.forEach((node, index) => {
    const turn = Math.PI / 2 - (2 * Math.PI * index) / apart.length;
    at.x[node] = Math.cos(turn) * OUTSIDE;
    at.y[node] = Math.sin(turn) * OUTSIDE;
  });
  return at;
}

function empty(nodes) {
  return { x: new Float64Array(nodes), y: new Float64Array(nodes) };
}

/** Latencies (us) at which to draw rings: three or four round ones below the last receipt. */
export function ringMarks(spanUs) {
  if (!(spanUs > 0)) return [];
  const rough = spanUs / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999);
  return Array.from({ length: Math.floor(spanUs / step + 1e-9) }, (_, index) => (index + 1) * step);
}
