// What is asked for often is done as often as it is cheap: it takes no more than a share of the time.

const LEAST_MS = 150; // between two times
const MOST_MS = 3000; // a browser that stood still once is not left without news
const APART = 10; // times as long as it took: that is the pause after it
const UNSEEN = 6; // times as long a pause for what nobody sees

export class Pace {
  #due = 0;
  #spent = 0;
  #ended = -Infinity;
  #seen = true;

  /** `act` is called some time after one or more calls of `ask`; more seldom while `place` is out of sight. */
  constructor(act, place, { now = () => performance.now(), later = (act, ms) => setTimeout(act, ms) } = {}) {
    Object.assign(this, { act, now, later });
    if (place) {
      this.observer = new IntersectionObserver((entries) => (this.#seen = entries.at(-1).isIntersecting), { rootMargin: "100px" });
      this.observer.observe(place);
    }
  }

  ask() {
    if (this.#due) return;
    const pause = Math.min(MOST_MS, Math.max(LEAST_MS, APART * this.#spent)) * (this.#seen ? 1 : UNSEEN);
    this.#due = this.later(() => this.#do(), Math.max(LEAST_MS, pause - (this.now() - this.#ended)));
  }

  stop() {
    clearTimeout(this.#due);
    this.#due = -1;
    this.observer?.disconnect();
  }

  #do() {
    this.#due = 0;
    const begun = this.now();
    this.act();
    this.#ended = this.now();
    this.#spent = this.#ended - begun;
  }
}
