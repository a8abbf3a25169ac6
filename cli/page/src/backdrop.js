// What lies behind the network: rings of equal latency, or the coasts of the earth. Drawn again with every move of the view.

import { land } from "libraries";
import { ms } from "./format.js";
import { ringMarks } from "./layouts.js";

export class Backdrop {
  constructor(canvas, theme) {
    this.canvas = canvas;
    this.theme = theme;
    this.kind = "";
    this.spanUs = 0;
  }

  /** `place({x, y})` gives the point on the screen of a point of the graph. */
  draw(place) {
    this.canvas.hidden = !(this.kind === "rings" || this.kind === "earth");
    if (this.canvas.hidden) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = window.devicePixelRatio || 1;
    if (this.canvas.width !== width * scale || this.canvas.height !== height * scale) {
      this.canvas.width = width * scale;
      this.canvas.height = height * scale;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (this.kind === "rings") this.#rings(pen, place);
    if (this.kind === "earth") this.#earth(pen, place);
  }

  #rings(pen, place) {
    const colours = this.theme.colours;
    const middle = place({ x: 0, y: 0 });
    const edge = place({ x: 1, y: 0 });
    pen.font = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
    pen.textAlign = "center";
    for (const us of ringMarks(this.spanUs)) {
      const radius = Math.abs(edge.x - middle.x) * (us / this.spanUs);
      pen.beginPath();
      pen.arc(middle.x, middle.y, radius, 0, 2 * Math.PI);
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1;
      pen.stroke();
      pen.lineWidth = 4;
      pen.strokeStyle = colours.card;
      pen.fillStyle = colours.quiet;
      pen.strokeText(ms(us / 1000), middle.x, middle.y - radius + 4);
      pen.fillText(ms(us / 1000), middle.x, middle.y - radius + 4);
    }
  }

  #earth(pen, place) {
    const colours = this.theme.colours;
    pen.beginPath();
    for (const ring of land) {
      for (let index = 0; index < ring.length; index += 2) {
        const at = place({ x: ring[index], y: ring[index + 1] });
        if (index) pen.lineTo(at.x, at.y);
        else pen.moveTo(at.x, at.y);
      }
      pen.closePath();
    }
    pen.fillStyle = colours.wash;
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1;
    pen.fill("evenodd");
    pen.stroke();
  }
}
