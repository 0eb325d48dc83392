// A lottery in the reader's browser: iterative magnitude pruning of a small network on 1,797 digits, beside two controls.
//
// Plain JavaScript, no dependencies, no requests. The first half is the mathematics, without a document or a clock; under
// Node it is what `require` returns, and tests/test_browser_lottery.py holds it to the library's numbers. The second half
// draws. The protocol is Frankle & Carbin's (2019, Figure 2) in small: layers are pruned one by one, the output layer at
// half the rate, survivors go back to their first weights, and all networks of a draw see the same batches.
(() => {
  "use strict";

  const SIZES = [64, 60, 30, 10]; // a fifth of LeNet-300-100 in each hidden layer
  const ROUNDS = 5;
  const STEPS = 400; // of training a network: 20 epochs
  const BATCH = 60;
  const EVERY = 5; // steps from one evaluation to the next
  const GOAL = 0.9; // of the validation digits: how fast a network gets there
  const ADAM = { rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
  const [WEIGHTS, ORDER, MASK] = [0, 1, 2]; // what random numbers are for
  const CONTROLS = ["fresh", "random"];

  // Random numbers.

  /** Uniform numbers in (0, 1) by sfc32 (Doty-Humphrey, PractRand), each stream a function of three integers alone. */
  function stream(seed, purpose, index) {
    let a = seed | 0,
      b = purpose | 0,
      c = index | 0,
      count = 1;
    const next = () => {
      const out = (a + b + count++) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + out) | 0;
      return ((out >>> 0) + 0.5) / 4294967296;
    };
    for (let i = 0; i < 20; i++) next();
    return next;
  }

  /** A standard normal number (Box & Muller 1958). */
  const normal = (random) => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());

  /** The numbers 0 … n − 1 in random order (Fisher & Yates). */
  function permutation(n, random) {
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  // Data. Examples lie side by side: the value of pixel i in example b is at i · width + b; width is a multiple of four.

  const wide = (n) => 4 * Math.ceil(n / 4);

  /** The parts of the packed digits, pixels standardised by the training part as the library does it. */
  function unpack({ parts, labels, rows }) {
    const found = {};
    let at = 0;
    for (const [name, count] of Object.entries(parts)) {
      const width = wide(count);
      const part = { count, width, pixels: new Float64Array(64 * width), labels: new Uint8Array(count) };
      for (let b = 0; b < count; b++, at++) {
        part.labels[b] = +labels[at];
        for (let row = 0; row < 8; row++) {
          let number = 0;
          for (let k = 0; k < 5; k++) {
            const code = rows.charCodeAt(5 * (8 * at + row) + k);
            number = 94 * number + code - (code > 92 ? 33 : 32);
          }
          for (let column = 7; column >= 0; column--, number = Math.floor(number / 17)) {
            part.pixels[(8 * row + column) * width + b] = Math.round((number % 17) * (255 / 16)) / 255;
          }
        }
      }
      found[name] = part;
    }
    const { train } = found;
    const each = (f) => {
      for (let i = 0; i < 64; i++) for (let b = 0; b < train.count; b++) f(train.pixels[i * train.width + b]);
    };
    let sum = 0,
      squares = 0;
    each((x) => {
      sum += x;
    });
    const mean = sum / (64 * train.count);
    each((x) => {
      squares += (x - mean) ** 2;
    });
    const deviation = Math.sqrt(squares / (64 * train.count - 1));
    for (const part of Object.values(found)) part.pixels = part.pixels.map((x) => (x - mean) / deviation);
    return found;
  }

  // Networks. A layer keeps its surviving weights alone: those of unit o from rows[o] to rows[o + 1], weight k at the input
  // columns[k] and at places[k] in the whole matrix (outputs × inputs, row by row, as PyTorch has it).

  /** Gaussian Glorot weights and zero biases of all layers. */
  function initial(random) {
    return SIZES.slice(1).map((outputs, l) => {
      const inputs = SIZES[l],
        scale = Math.sqrt(2 / (inputs + outputs));
      const weights = Float64Array.from({ length: inputs * outputs }, () => scale * normal(random));
      return { inputs, outputs, weights, bias: new Float64Array(outputs) };
    });
  }

  const dense = (start) => start.map(({ weights }) => new Uint8Array(weights.length).fill(1));
  const count = (mask) => mask.reduce((all, kept) => all + kept.reduce((sum, one) => sum + one, 0), 0);

  function parameter(values) {
    const zeros = () => new Float64Array(values.length);
    return { values, gradient: zeros(), m: zeros(), v: zeros() };
  }

  function network(start, mask) {
    return start.map(({ inputs, outputs, weights, bias }, l) => {
      const rows = new Int32Array(outputs + 1),
        places = [];
      mask[l].forEach((kept, place) => {
        if (!kept) return;
        places.push(place);
        rows[Math.floor(place / inputs) + 1]++;
      });
      for (let o = 0; o < outputs; o++) rows[o + 1] += rows[o];
      return {
        inputs,
        outputs,
        rows,
        places,
        columns: Int32Array.from(places, (place) => place % inputs),
        weights: parameter(Float64Array.from(places, (place) => weights[place])),
        bias: parameter(bias.slice()),
      };
    });
  }

  const room = (net, width) => net.map(({ outputs }) => new Float64Array(outputs * width));

  /** Fills `into` with what the layers answer to x, and returns the logits. Four examples at a time keep the adder busy. */
  function forward(net, x, width, into) {
    net.forEach(({ outputs, rows, columns, weights, bias }, l) => {
      const from = l ? into[l - 1] : x,
        to = into[l],
        w = weights.values,
        floor = l < net.length - 1 ? 0 : -Infinity;
      for (let o = 0; o < outputs; o++) {
        const first = rows[o],
          end = rows[o + 1],
          start = bias.values[o];
        for (let b = 0; b < width; b += 4) {
          let s0 = start,
            s1 = start,
            s2 = start,
            s3 = start;
          for (let k = first; k < end; k++) {
            const p = columns[k] * width + b,
              value = w[k];
            s0 += value * from[p];
            s1 += value * from[p + 1];
            s2 += value * from[p + 2];
            s3 += value * from[p + 3];
          }
          const q = o * width + b;
          to[q] = s0 > floor ? s0 : floor;
          to[q + 1] = s1 > floor ? s1 : floor;
          to[q + 2] = s2 > floor ? s2 : floor;
          to[q + 3] = s3 > floor ? s3 : floor;
        }
      }
    });
    return into[net.length - 1];
  }

  /** Mean cross-entropy of the first n examples, in nats; writes its gradient by the logits, if asked to. */
  function crossEntropy(logits, labels, n, width, gradient) {
    const classes = SIZES[SIZES.length - 1],
      share = new Float64Array(classes);
    let loss = 0;
    for (let b = 0; b < n; b++) {
      let top = -Infinity,
        sum = 0;
      for (let c = 0; c < classes; c++) top = Math.max(top, logits[c * width + b]);
      for (let c = 0; c < classes; c++) sum += share[c] = Math.exp(logits[c * width + b] - top);
      loss += Math.log(sum) + top - logits[labels[b] * width + b];
      if (!gradient) continue;
      for (let c = 0; c < classes; c++) gradient[c * width + b] = (share[c] / sum - (c === labels[b] ? 1 : 0)) / n;
    }
    return loss / n;
  }

  /** Gradients of all weights and biases, from that by the logits in the last of `slopes`. */
  function backward(net, x, width, outs, slopes) {
    for (let l = net.length - 1; l >= 0; l--) {
      const { outputs, rows, columns, weights, bias } = net[l],
        w = weights.values;
      const from = l ? outs[l - 1] : x,
        slope = slopes[l],
        back = l ? slopes[l - 1].fill(0) : null;
      for (let o = 0; o < outputs; o++) {
        const q = o * width;
        let all = 0;
        for (let b = 0; b < width; b++) all += slope[q + b];
        bias.gradient[o] = all;
        for (let k = rows[o]; k < rows[o + 1]; k++) {
          const p = columns[k] * width,
            value = w[k];
          let s0 = 0,
            s1 = 0,
            s2 = 0,
            s3 = 0;
          for (let b = 0; b < width; b += 4) {
            s0 += slope[q + b] * from[p + b];
            s1 += slope[q + b + 1] * from[p + b + 1];
            s2 += slope[q + b + 2] * from[p + b + 2];
            s3 += slope[q + b + 3] * from[p + b + 3];
          }
          weights.gradient[k] = s0 + s1 + s2 + s3;
          if (back) for (let b = 0; b < width; b++) back[p + b] += value * slope[q + b];
        }
      }
      if (back) for (let i = 0; i < back.length; i++) if (!(from[i] > 0)) back[i] = 0;
    }
  }

  /** Step number t of Adam (Kingma & Ba 2015), as PyTorch computes it. */
  function adam({ values, gradient, m, v }, t) {
    const { rate, beta1, beta2, epsilon } = ADAM,
      size = rate / (1 - beta1 ** t),
      bias = Math.sqrt(1 - beta2 ** t);
    for (let i = 0; i < values.length; i++) {
      const g = gradient[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      values[i] -= (size * m[i]) / (Math.sqrt(v[i]) / bias + epsilon);
    }
  }

  /**
   * One network in training. Early stopping is the step, `stop`, where validation loss was lowest; `right` marks the test
   * digits read there. `reached` is the first step at which GOAL of the validation digits are read, or null.
   */
  class Training {
    constructor(parts, start, mask, seed) {
      Object.assign(this, { parts, seed, net: network(start, mask), at: 0, steps: [], accuracy: [] });
      Object.assign(this, { lowest: Infinity, reached: null });
      [this.outs, this.slopes] = [room(this.net, BATCH), room(this.net, BATCH)];
      [this.x, this.y] = [new Float64Array(SIZES[0] * BATCH), new Uint8Array(BATCH)];
      this.sheets = ["validation", "test"].map((name) => room(this.net, parts[name].width));
      this.evaluate();
    }

    /** One optimiser step on the next batch; returns the batch's loss before it. */
    step() {
      const {
          net,
          x,
          y,
          parts: { train },
        } = this,
        batches = Math.floor(train.count / BATCH),
        place = this.at % batches;
      if (place === 0) this.order = permutation(train.count, stream(this.seed, ORDER, this.at / batches));
      for (let b = 0; b < BATCH; b++) {
        const example = this.order[place * BATCH + b];
        y[b] = train.labels[example];
        for (let i = 0; i < SIZES[0]; i++) x[i * BATCH + b] = train.pixels[i * train.width + example];
      }
      const logits = forward(net, x, BATCH, this.outs);
      const loss = crossEntropy(logits, y, BATCH, BATCH, this.slopes[this.slopes.length - 1]);
      backward(net, x, BATCH, this.outs, this.slopes);
      this.at++;
      for (const { weights, bias } of net) [weights, bias].forEach((one) => adam(one, this.at));
      if (this.at % EVERY === 0) this.evaluate();
      return loss;
    }

    evaluate() {
      const [validation, test] = ["validation", "test"].map((name, i) => {
        const { pixels, labels, count: n, width } = this.parts[name],
          logits = forward(this.net, pixels, width, this.sheets[i]);
        const right = Uint8Array.from({ length: n }, (_, b) => {
          let best = 0;
          for (let c = 1; c < 10; c++) if (logits[c * width + b] > logits[best * width + b]) best = c;
          return best === labels[b] ? 1 : 0;
        });
        return {
          loss: crossEntropy(logits, labels, n, width),
          right,
          share: right.reduce((sum, one) => sum + one, 0) / n,
        };
      });
      this.steps.push(this.at);
      this.accuracy.push(test.share);
      if (this.reached === null && validation.share >= GOAL) this.reached = this.at;
      if (validation.loss < this.lowest) {
        Object.assign(this, { lowest: validation.loss, stop: this.at, atStop: test.share, right: test.right });
      }
    }
  }

  // Pruning.

  /** Rounds halves to even, as Python does. */
  function round(x) {
    const below = Math.floor(x),
      rest = x - below;
    return rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below;
  }

  /** The mask without the smallest of each layer's trained weights; among equals the first in memory goes. */
  function prune(mask, net, rate) {
    return mask.map((kept, l) => {
      const {
          places,
          weights: { values },
        } = net[l],
        gone = kept.slice();
      const order = Array.from(places.keys()).sort((i, j) => Math.abs(values[i]) - Math.abs(values[j]));
      const fraction = l < mask.length - 1 ? rate : rate / 2;
      for (const i of order.slice(0, round(fraction * places.length))) gone[places[i]] = 0;
      return gone;
    });
  }

  /** A random mask with as many survivors in each layer. */
  function shuffle(mask, random) {
    return mask.map((kept) => Uint8Array.from(permutation(kept.length, random), (place) => kept[place]));
  }

  /**
   * A whole draw; pauses after every training step, so that whoever runs it can draw, and adds to `levels` as it goes.
   *
   * A level has the masks of the ticket and of the random control, the weights left, and the trainings: at level 0 the dense
   * network, later the ticket, the ticket's mask with fresh weights, and the random mask with fresh weights, in step.
   */
  function* draw(parts, { seed, rate, steps = STEPS }, levels) {
    const start = initial(stream(seed, WEIGHTS, 0)),
      total = count(dense(start));
    let mask = dense(start),
      last;
    for (let round = 0; round <= ROUNDS; round++) {
      if (round) mask = prune(mask, last.net, rate);
      const other = round ? shuffle(mask, stream(seed, MASK, round)) : mask,
        left = count(mask);
      const fresh = (i) => initial(stream(seed, WEIGHTS, 2 * round - i));
      const trainings = round
        ? {
            ticket: new Training(parts, start, mask, seed),
            fresh: new Training(parts, fresh(1), mask, seed),
            random: new Training(parts, fresh(0), other, seed),
          }
        : { dense: new Training(parts, start, mask, seed) };
      last = trainings.ticket || trainings.dense;
      levels.push({ masks: { ticket: mask, random: other }, left, density: left / total, trainings });
      for (let at = 0; at < steps; at++) {
        for (const training of Object.values(trainings)) {
          training.step();
          yield;
        }
      }
    }
  }

  /** How many connections each pixel has left in the first layer. */
  function connections([first]) {
    const found = new Int32Array(SIZES[0]);
    first.forEach((kept, place) => {
      found[place % SIZES[0]] += kept;
    });
    return found;
  }

  // What came out.

  /** Two-sided sign test: how often luck alone would split one + other as unevenly as this. */
  function signTest(one, other) {
    const n = one + other;
    let term = 0.5 ** n,
      sum = 0;
    for (let i = 0; i <= Math.min(one, other); i++) {
      sum += term;
      term *= (n - i) / (i + 1);
    }
    return Math.min(1, 2 * sum);
  }

  /** Who reads more test digits at early stopping, a or b, and whether luck in the choice of digits would explain it. */
  function compare(a, b) {
    const only = [a, b].map((one, i) => one.right.reduce((sum, yes, k) => sum + (yes > [b, a][i].right[k] ? 1 : 0), 0));
    const p = signTest(...only);
    return { only, p, outcome: p >= 0.05 ? "level" : only[0] > only[1] ? "ahead" : "behind" };
  }

  const NAMES = { ticket: "the ticket", fresh: "fresh weights", random: "a random mask", dense: "the dense network" };
  const whole = (n) => n.toLocaleString("en-US");
  const decimal = (x) => (100 * x).toFixed(1).replace(/^100\.0$/, "100");
  const percent = (share) => `${decimal(share)}\u00a0%`;
  const points = (x) => `${x < 0 ? "−" : "+"}${decimal(Math.abs(x))}\u00a0points`;
  const capital = (text) => text[0].toUpperCase() + text.slice(1);

  /** The result: a headline, a lead, further sentences, rows of a table, and how the ticket compared with each control. */
  function verdict(levels) {
    const last = levels[levels.length - 1],
      { dense } = levels[0].trainings,
      { ticket, fresh, random } = last.trainings;
    const digits = ticket.right.length,
      beside = {};
    for (const name of CONTROLS) beside[name] = compare(ticket, last.trainings[name]);
    const clauses = [
      ["ahead", "the ticket beats"],
      ["behind", "the ticket loses to"],
      ["level", "it is too close to call beside"],
    ].map(([outcome, says]) => [CONTROLS.filter((name) => beside[name].outcome === outcome), says]);
    const all = clauses.findIndex(([names]) => names.length === CONTROLS.length);
    const headline =
      all >= 0
        ? ["The ticket beats both controls in this draw.", "The ticket loses this draw.", "This draw is too close to call."][all]
        : `${capital(
            clauses
              .filter(([names]) => names.length)
              .map(([[name], says]) => `${says} ${NAMES[name]}`)
              .join("; "),
          )}.`;

    const luck = (name) => {
      const {
        only: [one, other],
        p,
      } = beside[name];
      const times = p < 0.001 ? "less than once" : `${Math.round(1000 * p)} times`;
      if (one + other === 0) return `The ticket and ${NAMES[name]} read the same digits.`;
      return (
        `The ticket alone reads ${one} digits, ${NAMES[name]} alone ${other}; a fair coin would split ${one + other} as ` +
        `unevenly ${times} in 1,000.`
      );
    };
    const down = (name) => {
      let least = 1;
      for (const level of levels.slice(1)) {
        if (compare(level.trainings[name], dense).outcome === "behind") break;
        least = level.density;
      }
      return least < 1 ? percent(least) : "none";
    };
    const unseen = ["ticket", "random"].map((name) => connections(last.masks[name]).filter((one) => one === 0).length);
    const row = (name, { atStop, stop, reached, at }) => ({
      name,
      accuracy: atStop,
      reached,
      stop,
      learning: stop === at,
    });
    return {
      beside,
      headline,
      lead:
        `With ${whole(last.left)} of ${whole(levels[0].left)} weights left (${percent(last.density)}), the ticket reads ` +
        `${percent(ticket.atStop)} of ${digits} test digits, the same mask with fresh weights ${percent(fresh.atStop)}, ` +
        `a random mask ${percent(random.atStop)}. The dense network reads ${percent(dense.atStop)}.`,
      sentences: [
        `The places of the weights are worth ${points(fresh.atStop - random.atStop)} (the ticket’s mask against a random ` +
          `one, both with fresh weights). Their first values are worth ${points(ticket.atStop - fresh.atStop)} (the ticket ` +
          "against fresh weights in its mask).",
        `Before its first step of training the ticket already reads ${percent(ticket.accuracy[0])}, fresh weights in its ` +
          `mask ${percent(fresh.accuracy[0])}; a guess is right in 10\u00a0%.`,
        `Is it luck in the choice of test digits? ${luck("fresh")} ${luck("random")}`,
        "Weights left in the sparsest network that, by this test, keeps up with the dense one: " +
          `the ticket ${down("ticket")}, fresh weights ${down("fresh")}, a random mask ${down("random")}.`,
        `Of the 64 pixels, the ticket’s mask has let go of ${unseen[0]}, the random mask of ${unseen[1]}.`,
      ],
      rows: [row("ticket", ticket), row("fresh", fresh), row("random", random), row("dense", dense)],
    };
  }

  const core = {
    SIZES,
    ROUNDS,
    STEPS,
    BATCH,
    EVERY,
    ADAM,
    stream,
    normal,
    permutation,
    unpack,
    initial,
    dense,
    count,
    network,
    Training,
    prune,
    shuffle,
    draw,
    connections,
    signTest,
    compare,
    verdict,
  };
  if (typeof module === "object" && module.exports) module.exports = core;
  if (typeof document === "undefined") return;
  // The page.

  const LABELS = { dense: "dense", ticket: "ticket", fresh: "fresh weights", random: "random mask" };
  const SLICE = 8; // milliseconds of computing, then the browser has its turn
  const FRAME = 30; // milliseconds at least from one picture to the next
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  /** A figure as SVG text. Series: {name, points: [[x, y]], marks: [[x, y]], faint, label}; axes: {at, ticks, label}. */
  function chart(width, height, x, y, series, says) {
    const [top, right, bottom, left] = [12, 114, 44, 34],
      across = width - left - right,
      down = height - top - bottom;
    const px = (value) => (left + across * x.at(value)).toFixed(1),
      py = (value) => (top + down * (1 - y.at(value))).toFixed(1);
    const mark = (name, [a, b]) => {
      const [cx, cy] = [+px(a), +py(b)];
      if (name === "fresh") return `<rect x="${cx - 4.5}" y="${cy - 4.5}" width="9" height="9"/>`;
      if (name === "random") return `<path d="M${cx - 5.5} ${cy + 4.5}h11l-5.5-10z"/>`;
      return `<circle cx="${cx}" cy="${cy}" r="4.8"/>`;
    };
    const named = series
      .filter((one) => one.label && one.points.length)
      .map((one) => {
        const [, end] = one.points[one.points.length - 1];
        return { name: one.name, y: +py(end) };
      })
      .sort((a, b) => a.y - b.y);
    named.forEach((one, i) => {
      if (i) one.y = Math.max(one.y, named[i - 1].y + 17);
    });
    for (let i = named.length - 1, floor = top + down; i >= 0; i--, floor -= 17)
      named[i].y = Math.min(named[i].y, floor);
    return (
      `<svg role="img" aria-label="${says}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">` +
      y.ticks
        .map(
          (t) => `<path class="grid" d="M${left} ${py(t)}h${across}"/><text class="tick" x="${left - 7}" y="${py(t)}"
      dy=".35em" text-anchor="end">${y.says ? y.says(t) : t}</text>`,
        )
        .join("") +
      x.ticks
        .map(
          (t) => `<path class="grid" d="M${px(t)} ${top + down}v5"/><text class="tick" x="${px(t)}"
      y="${top + down + 19}" text-anchor="middle">${x.says ? x.says(t) : t}</text>`,
        )
        .join("") +
      `<path class="axis" d="M${left} ${top + down}h${across}"/>` +
      `<text class="label" x="${left + across / 2}" y="${height - 5}" text-anchor="middle">${x.label}</text>` +
      series
        .map(
          (one) =>
            `<g class="${one.name}${one.faint ? " faint" : ""}">${
              one.points.length > 1
                ? `<path class="line" d="M${one.points.map(([a, b]) => `${px(a)} ${py(b)}`).join("L")}"/>`
                : ""
            }${(one.marks || []).map((point) => mark(one.name, point)).join("")}</g>`,
        )
        .join("") +
      named
        .map(
          (one) =>
            `<text class="name ${one.name}" x="${width - right + 10}" y="${one.y}" dy=".35em">${
              LABELS[one.name]
            }</text>`,
        )
        .join("") +
      "</svg>"
    );
  }

  /** Accuracy stretched towards 100 %: logarithmic in the share of errors, from all down to 1 in 200. */
  const stretched = {
    at: (accuracy) => Math.log(Math.max(1 - accuracy, 0.005)) / Math.log(0.005),
    ticks: [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99],
    says: (t) => Math.round(100 * t),
  };

  /** An image of 8 × 8 shares of ink. */
  const image = (shares, name) =>
    `<svg class="image ${name}" viewBox="0 0 8 8" aria-hidden="true">${Array.from(shares, (share, i) =>
      share > 0
        ? `<rect x="${i % 8}" y="${Math.floor(i / 8)}" width="1" height="1" fill-opacity="${share.toFixed(3)}"/>`
        : "",
    ).join("")}</svg>`;

  /** The weights left after some rounds at a pruning rate. */
  const remaining = (rate, rounds) =>
    SIZES.slice(1).reduce((sum, outputs, l) => {
      let left = SIZES[l] * outputs;
      for (let i = 0; i < rounds; i++) left -= round((l < SIZES.length - 2 ? rate : rate / 2) * left);
      return sum + left;
    }, 0);

  function page(host, digits) {
    const total = remaining(0, 0);
    host.classList.add("lottery");
    host.innerHTML = `
    <form class="controls">
      <div class="field"><label for="lottery-seed">Seed</label>
        <input id="lottery-seed" type="number" min="0" max="4294967295" step="1" value="1" required></div>
      <div class="field wide"><label for="lottery-rate">Pruned each round: <output for="lottery-rate"></output></label>
        <input id="lottery-rate" type="range" min="20" max="60" step="5" value="50" aria-describedby="lottery-left"></div>
      <div class="buttons"><button class="go" type="submit">Draw a ticket</button>
        <button class="next" type="button" hidden>Next seed</button></div>
      <p id="lottery-left" class="note"></p>
    </form>
    <div class="idle"><div class="digits"></div><p class="note">Ten of the digits, 8 × 8 pixels each. A network of
      ${whole(total)} weights learns to read them, is pruned, goes back to its first weights and learns again, five
      times; two controls learn beside it. All of it happens here, in this page.</p></div>
    <div class="running" hidden>
      <div class="state"><div class="status" role="status"><p class="headline"></p><p class="what"></p></div>
        <progress max="1" value="0" aria-label="Progress of the draw"></progress><p class="note account"></p></div>
      <div class="panel"><h3>What is left of the first layer</h3><p class="note">Connections at each pixel: in the
        <b class="key ticket">ticket’s mask</b> above, in a <b class="key random">random mask</b> with as many weights
        below. Choose a round to see how it learned.</p><div class="rounds" role="group" aria-label="Rounds"></div></div>
      <div class="panel"><h3 class="learned"></h3><p class="note">Test accuracy (%), stretched towards 100. Marks:
        early stopping, where validation loss was lowest.</p><div class="curves"></div></div>
      <div class="pair">
        <div class="panel"><h3>Accuracy, round by round</h3><p class="note">Test accuracy (%) at early
          stopping.</p><div class="summary"></div></div>
        <div class="panel"><h3>Speed, round by round</h3><p class="note">Step at which ${Math.round(
          100 * GOAL,
        )} % of validation digits are read (logarithmic); no mark: never.</p><div class="speed"></div></div>
      </div>
      <div class="words"></div>
    </div>`;
    const find = (selector) => host.querySelector(selector);
    const [form, seed, rate, go, next] = ["form", "#lottery-seed", "#lottery-rate", ".go", ".next"].map(find);
    const parts = unpack(digits);
    const past = [];
    const turn = new MessageChannel();
    let now = null,
      shown = 0,
      follows = true,
      drawn = "",
      painted = 0;

    const { train } = parts;
    const [low, high] = train.pixels.reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [0, 0]);
    for (let digit = 0; digit < 10; digit++) {
      const b = train.labels.indexOf(digit);
      const ink = Array.from({ length: 64 }, (_, i) => (train.pixels[i * train.width + b] - low) / (high - low));
      find(".digits").insertAdjacentHTML("beforeend", image(ink, "digit"));
    }

    function tell() {
      const left = remaining(rate.value / 100, ROUNDS);
      find("output").textContent = `${rate.value} %`;
      find("#lottery-left").textContent =
        `Leaves ${whole(left)} of ${whole(total)} weights, ${percent(left / total)}, after ` +
        `${ROUNDS} rounds; the output layer is pruned at half the rate.`;
    }

    const width = (selector) => Math.max(260, Math.floor(find(selector).clientWidth));
    const done = (level) => Object.values(level.trainings).every(({ at }) => at === STEPS);

    function paintCurves() {
      const level = now.levels[shown],
        all = { dense: now.levels[0].trainings.dense, ...level.trainings };
      const series = ["dense", "random", "fresh", "ticket"]
        .filter((name) => all[name])
        .map((name) => {
          const { steps, accuracy, stop, atStop, at } = all[name];
          return {
            name,
            label: true,
            points: steps.map((step, i) => [step, accuracy[i]]),
            marks: at === STEPS ? [[stop, atStop]] : [],
          };
        });
      const says =
        `Test accuracy against training step, ${percent(level.density)} of the weights left. ` +
        series.map(({ name, points }) => `${LABELS[name]} ${percent(points[points.length - 1][1])}`).join(", ");
      const steps = { at: (step) => step / STEPS, ticks: [0, 100, 200, 300, 400], label: "training step" };
      find(".learned").textContent = shown
        ? `Learning with ${percent(level.density)} of the weights, round ${shown}`
        : "Learning with all weights";
      find(".curves").innerHTML = chart(width(".curves"), 290, steps, stretched, series, says);
    }

    function paintSummaries() {
      const finished = now.levels.filter(done),
        planned = Array.from({ length: ROUNDS + 1 }, (_, round) => ({
          density: remaining(now.rate, round) / total,
        }));
      const x = {
        at: ({ density }) => Math.log(density) / Math.log(planned[ROUNDS].density),
        ticks: planned,
        says: ({ density }) => decimal(density),
        label: "weights left (%)",
      };
      const lines = (levels, value, faint) =>
        ["random", "fresh", "ticket"].map((name) => {
          const points = levels
            .filter(({ trainings }) => trainings[name] && value(trainings[name]) !== null)
            .map((level) => [level, value(level.trainings[name])]);
          return { name, faint, label: !faint, points, marks: faint ? [] : points };
        });
      const flat = (value) =>
        finished.slice(0, 1).map(({ trainings }) => ({
          name: "dense",
          label: true,
          points: [0, ROUNDS].map((round) => [planned[round], value(trainings.dense)]),
        }));
      const earlier = past.filter((one) => one.rate === now.rate && one.levels !== now.levels);
      const show = (selector, y, value, title) => {
        const mine = lines(finished, value, false),
          before = earlier.flatMap(({ levels }) => lines(levels, value, true));
        const said = mine.map(
          ({ name, points }) => `${LABELS[name]} ${points.map(([, at]) => (y.says ? decimal(at) : at)).join(", ")}`,
        );
        find(selector).innerHTML = chart(
          width(selector),
          230,
          x,
          y,
          [...before, ...flat(value), ...mine],
          `${title} against weights left. ${said.join("; ")}`,
        );
      };
      show(".summary", stretched, ({ atStop }) => atStop, "Test accuracy at early stopping");
      const speed = {
        at: (step) => Math.log(Math.max(step, EVERY) / EVERY) / Math.log(STEPS / EVERY),
        ticks: [5, 10, 20, 50, 100, 200, 400],
      };
      show(".speed", speed, ({ reached }) => reached, "Step at which 90 % of the validation digits are read");
    }

    function paintStrip() {
      const strip = find(".rounds");
      for (let i = strip.querySelectorAll("button").length; i < now.levels.length; i++) {
        const { masks, density, left } = now.levels[i],
          counts = ["ticket", "random"].map((name) => connections(masks[name]));
        const [none, other] = counts.map((found) => found.filter((one) => one === 0).length);
        const images = counts.map((found, k) =>
          image(
            Array.from(found, (one) => Math.sqrt(one / SIZES[1])),
            ["ticket", "random"][k],
          ),
        );
        const button = document.createElement("button");
        button.type = "button";
        button.innerHTML = `${images.join("")}<span>${percent(density)}</span>`;
        button.setAttribute(
          "aria-label",
          `${i ? `Round ${i}` : "All weights"}, ${percent(density)}: ${whole(left)} weights. ` +
            `Pixels without a connection: ${none} in the ticket’s mask, ${other} in the random mask.`,
        );
        strip.replaceChild(button, strip.children[i]);
      }
      [...strip.querySelectorAll("button")].forEach((one, i) => one.setAttribute("aria-pressed", i === shown));
    }

    function paint(everything) {
      const last = now.levels.length - 1,
        state = `${last} ${now.levels.filter(done).length}`,
        turned = state !== drawn;
      if (follows) shown = last;
      if (turned) {
        const { density, left } = now.levels[last];
        drawn = state;
        find(".headline").textContent = last ? `Round ${last} of ${ROUNDS}` : "First, the dense network";
        find(".what").textContent = last
          ? `Three networks of ${whole(left)} weights (${percent(density)}) learn side by side: the ticket, from its first ` +
            "weights; its mask with fresh weights; a random mask with fresh weights."
          : `All ${whole(total)} weights learn. The smallest will be cut, and the others get their first values back.`;
        paintStrip();
      }
      if (turned || everything) paintSummaries();
      if (turned || everything || !still.matches) {
        find("progress").value = now.at / now.length;
        paintCurves();
      }
      painted = performance.now();
    }

    function busy(yes) {
      go.textContent = yes ? "Stop" : "Draw a ticket";
      host.toggleAttribute("data-running", yes);
    }

    function begin() {
      now = { seed: +seed.value, rate: rate.value / 100, levels: [], at: 0, length: STEPS * (1 + 3 * ROUNDS) };
      now.work = draw(parts, { seed: now.seed, rate: now.rate }, now.levels);
      now.began = performance.now();
      [shown, follows, drawn, painted] = [0, true, "", 0];
      find(".idle").hidden = next.hidden = true;
      find(".running").hidden = false;
      find(".words").innerHTML = find(".account").textContent = "";
      find(".rounds").innerHTML = "<span></span>".repeat(ROUNDS + 1);
      busy(true);
      turn.port2.postMessage(now.began);
    }

    function work() {
      if (!now.work) return;
      const until = performance.now() + SLICE;
      let over = false;
      while (!over && performance.now() < until) {
        over = now.work.next().done;
        if (!over) now.at++;
      }
      if (over) finish();
      else turn.port2.postMessage(now.began);
      if (!over && performance.now() > painted + FRAME) {
        painted = Infinity; // until this picture is drawn
        requestAnimationFrame(() => {
          if (now.work) paint(false);
        });
      }
    }

    function halt() {
      now.work = null;
      busy(false);
      find(".headline").textContent = "Stopped";
      find(".what").textContent = "Draw again, with these settings or others.";
    }

    function finish() {
      const seconds = ((performance.now() - now.began) / 1000).toFixed(1),
        said = verdict(now.levels);
      now.work = null;
      paint(true);
      busy(false);
      next.hidden = false;
      find(".headline").textContent = said.headline;
      find(".what").textContent = said.lead;
      find(".account").textContent =
        `Seed ${now.seed}, ${Math.round(100 * now.rate)} % a round: ${1 + 3 * ROUNDS} networks, ` +
        `${whole(now.length)} training steps, ${seconds} seconds.`;

      if (!past.some((one) => one.rate === now.rate && one.seed === now.seed))
        past.push({ ...now, beside: said.beside });
      const same = past.filter((one) => one.rate === now.rate);
      const tally = (name) =>
        [
          ["ahead", "ahead"],
          ["level", "too close to call"],
          ["behind", "behind"],
        ]
          .map(([outcome, says]) => {
            const times = same.filter(({ beside }) => beside[name].outcome === outcome).length;
            return times ? `${says} in ${times}` : "";
          })
          .filter(Boolean)
          .join(", ");
      const again =
        same.length > 1
          ? `Your ${same.length} draws at this rate: beside fresh weights the ticket was ${tally("fresh")}; beside a random ` +
            `mask, ${tally("random")}. Earlier draws are the faint lines.`
          : "One draw is an anecdote. Draw the next seed and see whether it happens again.";
      const row = ({ name, accuracy, reached, stop, learning }) =>
        `<tr><th scope="row"><b class="key ${name}">${
          LABELS[name]
        }</b></th><td>${percent(accuracy)}</td><td>${reached === null ? "never" : reached}</td><td>${stop}${
          learning ? "*" : ""
        }</td></tr>`;
      find(".words").innerHTML = `<h3>What came out</h3>
      <table><thead><tr><th scope="col"><span class="hush">network</span></th><th scope="col">test digits read</th>
        <th scope="col">${Math.round(100 * GOAL)} % read at step</th><th scope="col">early stopping at step</th></tr></thead>
        <tbody>${said.rows.map(row).join("")}</tbody></table>
      ${said.rows.some(({ learning }) => learning) ? '<p class="note">* The last step: it was still learning.</p>' : ""}
      ${said.sentences.map((sentence) => `<p>${sentence}</p>`).join("")}<p class="again">${again}</p>`;
    }

    turn.port1.onmessage = ({ data }) => {
      if (data === now.began) work(); // and not a draw that was stopped
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (now && now.work) halt();
      else begin();
    });
    next.addEventListener("click", () => {
      seed.value = (+seed.value + 1) % 4294967296;
      go.focus();
      begin();
    });
    rate.addEventListener("input", tell);
    find(".rounds").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      [shown, follows] = [[...button.parentElement.children].indexOf(button), false];
      paintStrip();
      paintCurves();
    });
    new ResizeObserver(() => {
      if (now && now.levels.length) {
        paintCurves();
        paintSummaries();
      }
    }).observe(find(".running"));
    tell();
  }

  const host = document.getElementById("lottery-in-the-browser");
  if (host) {
    if (typeof lotteryDigits === "object") page(host, lotteryDigits);
    else host.textContent = "The digits did not load: lottery-digits.js has to come before lottery.js.";
  }
})();
