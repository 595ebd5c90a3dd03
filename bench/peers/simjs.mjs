/** simjs 2.0.3, if it is installed: node simjs.mjs hold N OPERATIONS */
import { createRequire } from 'node:module';
import process from 'node:process';
import { cpuSeconds } from '../limits/cpu-seconds.mjs';
import { exponentialTable } from '../limits/exponential.mjs';

const [, n, wanted] = process.argv.slice(2);
const operations = Number(wanted);
const warmUp = Math.min(200000, operations);
const table = exponentialTable();
let drawn = 0;
let done = 0;
let start = 0;

function tick() {
  if (++done === warmUp) start = cpuSeconds();
  if (done < warmUp + operations) return;
  console.log(JSON.stringify({ value: operations / (cpuSeconds() - start) }));
  process.exit(0);
}

globalThis.window = globalThis; // its bundle exports to `window` only
createRequire(import.meta.url)('simjs');
const { Sim, Entity } = globalThis.Sim;

class Holder extends Entity {
  start() {
    const next = () => {
      tick();
      this.setTimer(table[drawn++ & 65535]).done(next);
    };
    this.setTimer(table[drawn++ & 65535]).done(next);
  }
}

const sim = new Sim();
for (let i = 0; i < Number(n); i++) sim.addEntity(Holder);
sim.simulate(Infinity);
