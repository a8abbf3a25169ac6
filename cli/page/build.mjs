// Builds the two scripts of the rich page: node build.mjs [FOLDER]. The same lock and sources give the same bytes.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUT = process.argv[2] ?? join(HERE, "..", "p2pnet", "present", "vendor");
const LIBRARIES = "p2pnetLibraries";
const require = createRequire(import.meta.url);
const lock = JSON.parse(readFileSync(join(HERE, "package-lock.json"), "utf8"));

// Coasts of Natural Earth (1:110 million, public domain), as rings of tenths of a degree: lon, lat, lon, lat ...
const land = {
  name: "land",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^p2pnet:land$/ }, () => ({ path: "land", namespace: "land" }));
    onLoad({ filter: /.*/, namespace: "land" }, () => ({ contents: JSON.stringify(rings()), loader: "json" }));
  },
};

function rings() {
  const { feature } = require("topojson-client");
  const world = JSON.parse(readFileSync(require.resolve("world-atlas/land-110m.json"), "utf8"));
  const found = [];
  for (const one of feature(world, world.objects.land).features) {
    const polygons = one.geometry.type === "Polygon" ? [one.geometry.coordinates] : one.geometry.coordinates;
    for (const polygon of polygons) for (const ring of polygon) found.push(unwrapped(ring).flatMap((at) => at.map((x) => Math.round(x * 10))));
  }
  return found;
}

// A coast that crosses the antimeridian goes on beyond 180 degrees; one that goes round a pole is closed through it.
function unwrapped(ring) {
  let turn = 0;
  const out = ring.map(([lon, lat], index) => {
    const step = index ? lon - ring[index - 1][0] : 0;
    if (step > 180) turn -= 360;
    if (step < -180) turn += 360;
    return [lon + turn, lat];
  });
  if (turn) out.push([out.at(-1)[0], Math.sign(ring[0][1]) * 90], [out[0][0], Math.sign(ring[0][1]) * 90]);
  return out;
}

// Our modules say `import { echarts } from "libraries"`; in the page that is the global which the other script made.
const libraries = {
  name: "libraries",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^libraries$/ }, () => ({ path: "libraries", namespace: "libraries" }));
    onLoad({ filter: /.*/, namespace: "libraries" }, () => ({
      contents: `export const { echarts, Graph, Sigma, land } = globalThis.${LIBRARIES};`,
    }));
  },
};

const COMMON = {
  bundle: true, format: "iife", minify: true, write: false, charset: "ascii", legalComments: "none", metafile: true,
  target: ["chrome109", "firefox115", "safari16"], absWorkingDir: HERE, logLevel: "warning",
};

async function bundle(entry, plugins) {
  const { outputFiles, metafile } = await build({ ...COMMON, entryPoints: [entry], plugins });
  return { text: outputFiles[0].text.trimEnd(), inputs: Object.keys(metafile.inputs) };
}

// A script element ends at the first `</script`, whatever stands around it.
function checked(text) {
  if (/<\/script|<!--/i.test(text)) throw new Error("a bundle may hold neither </script nor <!--");
  return text;
}

function packagesOf(inputs) {
  const names = new Set(inputs.flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []));
  names.add("world-atlas");
  return [...names].sort();
}

function licenceOf(name) {
  const folder = join(HERE, "node_modules", name);
  const files = readdirSync(folder).filter((file) => /^(licen[cs]e|notice)(\.|$)/i.test(file)).sort();
  if (!files.length) throw new Error(`${name} has no licence file`);
  return files.map((file) => readFileSync(join(folder, file), "utf8").trim()).join("\n\n");
}

function digest(paths) {
  const sum = createHash("sha256");
  for (const path of [...paths].sort()) sum.update(`${relative(HERE, path).replaceAll("\\", "/")}\n`).update(readFileSync(path));
  return sum.digest("hex");
}

const sources = readdirSync(join(HERE, "src")).filter((name) => name.endsWith(".js")).map((name) => join(HERE, "src", name));
const others = await bundle("libraries/index.js", [land]);
const ours = await bundle("src/main.js", [libraries]);
const names = packagesOf(others.inputs);
const versions = Object.fromEntries(names.map((name) => [name, lock.packages[`node_modules/${name}`].version]));
const made = {
  packages: versions,
  builder: { esbuild: lock.packages["node_modules/esbuild"].version },
  sources: digest([...sources, join(HERE, "libraries", "index.js"), join(HERE, "build.mjs"), join(HERE, "package-lock.json")]),
};
const notices = names.map((name) => `${"=".repeat(100)}\n${name} ${versions[name]}\n${"=".repeat(100)}\n\n${licenceOf(name)}\n`);

mkdirSync(OUT, { recursive: true });
writeFileSync(join(OUT, "libraries.js"), `${checked(others.text)}\n`);
writeFileSync(join(OUT, "view.js"), `${checked(ours.text)}\n`);
writeFileSync(join(OUT, "made.json"), `${JSON.stringify(made, null, 2)}\n`);
writeFileSync(join(OUT, "LICENSES.txt"), `${notices.join("\n")}`);
