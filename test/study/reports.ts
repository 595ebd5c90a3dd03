/**
 * Whether a report names the planted bug: the call (what it does, on which object or device, for which direction) and its place (between
 * which accesses it belongs).
 *
 * A direction that is named may be a part of the call's own: a read that lacks `START | RW` needs `START | READ` only. For bytes that a
 * driver's mapping kept from the CPU a report names the sync and, as the other way, the unmap; either is the call if the program has
 * it there. A wait is named by the fence, or by the work that it was for.
 */
import type { Cause } from '../../src/base/cause.ts';
import type { DmaDebugFacts } from '../../src/base/dma-hazards.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import type { BracketFacts, HazardSide, RaceFacts } from '../../src/base/watch-hazards.ts';
import type { Outcome } from './interpreter.ts';
import type { Mutant } from './mutants.ts';
import { type Access, type Action, type Program, tasksOf } from './program.ts';

/** What is judged of one report. */
export interface Judged {
  readonly code: string;
  /** It speaks of bytes: stale, lost or raced for; else of a rule that was broken. */
  readonly isOfBytes: boolean;
  readonly namesCall: boolean;
  readonly namesPlace: boolean;
  /** The call is named with just the direction that was planted, and first. */
  readonly isExact: boolean;
  /** It names the two that are not in order, but asks the wrong one of them to wait. */
  readonly isReversed: boolean;
  readonly text: string;
}

const DIRS: Record<Access, readonly string[]> = {
  read: ['from-device'],
  write: ['to-device'],
  rw: ['from-device', 'to-device', 'bidirectional'],
};
const FLAGS: Record<Access, readonly string[]> = { read: ['READ'], write: ['WRITE'], rw: ['READ', 'WRITE', 'RW'] };

/** Judges the reports of `outcome`, a run of `mutant`, in their order. */
export function judgeReports(mutant: Mutant, outcome: Outcome): Judged[] {
  const at = outcome.times.find(({ label }) => label === mutant.label)?.startNs ?? -1;
  const hazards = outcome.hazards.map((facts) => judgeHazard(mutant, outcome, facts, at));
  const leaks = outcome.leaks.map(({ remedy, what, object }) => ({
    code: 'ledger.leak',
    isOfBytes: false,
    namesCall: namesEnd(mutant.action, `${object}: ${what}: ${remedy}`),
    namesPlace: true,
    isExact: false,
    isReversed: false,
    text: `${object}: ${what}; ${remedy}`,
  }));
  const errors = outcome.errors.map(({ label, message }) => ({
    code: 'error',
    isOfBytes: false,
    namesCall: namesEnd(mutant.action, message),
    namesPlace: true,
    isExact: false,
    isReversed: false,
    text: `${label}: ${message}`,
  }));
  const memory = outcome.left
    .filter((text) => text.includes(' holds '))
    .map((text) => ({
      code: 'memory left',
      isOfBytes: false,
      namesCall: mutant.action.op === 'free' && text.startsWith(`${mutant.action.memory} holds`),
      namesPlace: true,
      isExact: false,
      isReversed: false,
      text,
    }));
  return [...hazards, ...errors, ...leaks, ...memory];
}

function judgeHazard(mutant: Mutant, outcome: Outcome, facts: HazardFacts, at: number): Judged {
  const { action } = mutant;
  if ('cause' in facts) {
    const { cause } = facts;
    const text = `${cause.code}: ${cause.call}${cause.or === undefined ? '' : ` or ${cause.or}`} on ${cause.object ?? '-'} by ${cause.by}; instead ${cause.instead}`;
    const namesCall = namesCause(mutant, outcome, cause);
    const namesPlace = isBetween(at, cause.after, cause.before);
    const isExact = namesCause(mutant, outcome, cause, true);
    return { code: facts.hazard, isOfBytes: true, namesCall, namesPlace, isExact, isReversed: false, text };
  }
  if ('work' in facts) {
    const { fence, work, first, second } = facts;
    const text = `fence ${fence}, ${work}; ${first.who} ${first.action} ${first.timeNs}, ${second.who} ${second.action} ${second.timeNs}; ${facts.remedy}`;
    const namesPlace = first.timeNs >= at || second.timeNs >= at;
    const [namesCall, isReversed] = namesRace(mutant, outcome, facts);
    return { code: facts.hazard, isOfBytes: true, namesCall, namesPlace, isExact: namesCall, isReversed, text };
  }
  if ('mapping' in facts) {
    const namesPlace = facts.call.timeNs === at;
    return {
      code: facts.hazard,
      isOfBytes: false,
      isExact: false,
      isReversed: false,
      namesCall: namesMisuse(action, facts),
      namesPlace,
      text: facts.what,
    };
  }
  if ('open' in facts) {
    const text = `${facts.call}: ${facts.remedy}`;
    return {
      code: facts.hazard,
      isOfBytes: false,
      isExact: false,
      isReversed: false,
      namesCall: namesBracket(action, outcome, facts),
      namesPlace: true,
      text,
    };
  }
  return {
    code: facts.hazard,
    isOfBytes: true,
    namesCall: false,
    namesPlace: false,
    isExact: false,
    isReversed: false,
    text: facts.remedy,
  };
}

function isBetween(at: number, after: HazardSide | null, before: HazardSide | null): boolean {
  return (after === null || after.timeNs <= at) && (before === null || at <= before.timeNs);
}

/** @param isStrict - a part of the direction is not enough, nor the call as the other way. */
function namesCause(mutant: Mutant, outcome: Outcome, cause: Cause, isStrict = false): boolean {
  const { action, original } = mutant;
  const { code, call, or = '', object = '' } = cause;
  const least = isStrict ? -1 : 0;
  switch (action.op) {
    case 'begin':
    case 'end': {
      if (object !== outcome.bufs.get(action.buf)) return false;
      const step = action.op === 'begin' ? 'START' : 'END';
      if (action.by === 'ioctl')
        return FLAGS[action.access]
          .slice(least)
          .some((flag) => call === `ioctl(DMA_BUF_IOCTL_SYNC, ${step} | ${flag})`);
      return DIRS[action.access]
        .slice(least)
        .some((dir) => new RegExp(`^${action.op}CpuAccess(Partial)?\\(${dir}`).test(call));
    }
    case 'sync-cpu':
    case 'sync-device': {
      const verb = action.op === 'sync-cpu' ? 'ForCpu' : 'ForDevice';
      return isDmaCall(call, `dmaSync\\w+${verb}`, deviceOf(original, action.map), action.dir);
    }
    case 'dma-unmap': {
      const unmap = `dmaUnmap\\w+`;
      const dev = deviceOf(original, action.map);
      return isDmaCall(call, unmap, dev, action.dir) || (!isStrict && isDmaCall(or, unmap, dev, action.dir));
    }
    case 'dma-map':
      return isDmaCall(call, 'dmaMap\\w+', action.dev, action.dir);
    case 'barrier':
      return code === 'missing-barrier';
    case 'wait':
      return code === 'missing-fence' && namesFence(outcome, call, [action.fence]);
    case 'wait-point':
      return code === 'missing-fence' && namesFence(outcome, call, pointsOf(original, action.timeline, action.point));
    case 'idle':
      return code === 'missing-fence' && namesFence(outcome, call, fencesOn(original, action.buf));
    case 'submit': {
      const used = [...action.job.reads, ...action.job.writes].flatMap(({ buf }) => fencesOn(original, buf));
      return code === 'missing-fence' && namesFence(outcome, call, [...action.waits, ...used]);
    }
    default:
      return false;
  }
}

/** Whether `call` waits for one of `fences`, by its name. */
function namesFence(outcome: Outcome, call: string, fences: readonly string[]): boolean {
  return fences.some((as) => {
    const name = outcome.fences.get(as);
    return name !== undefined && `${call} `.includes(`wait for fence ${name} `);
  });
}

/** Fences of jobs that touch `buf`, and those that are left in its reservation. */
function fencesOn(program: Program, buf: string): string[] {
  const actions = tasksOf(program).flatMap(({ steps }) => steps.map(({ action }) => action));
  const left = actions.flatMap((action) => (action.op === 'fence' && action.writes === buf ? [action.as] : []));
  return [...left, ...jobsOn(program, buf)];
}

function isDmaCall(call: string, name: string, dev: string, dir: string): boolean {
  return new RegExp(`^${name}\\(${dev}, ${dir}\\)$`).test(call);
}

function deviceOf(program: Program, map: string): string {
  for (const { steps } of tasksOf(program)) {
    for (const { action } of steps) if (action.op === 'dma-map' && action.as === map) return action.dev;
  }
  return '';
}

/** Whether the two that are named are those that nothing orders; and whether it is the wrong one of them that is asked to wait. */
function namesRace(mutant: Mutant, outcome: Outcome, facts: RaceFacts): readonly [names: boolean, isReversed: boolean] {
  const { action, original, label, kind } = mutant;
  const { fence, work, remedy } = facts;
  const isFence = (as: string) => outcome.fences.get(as) === fence || work === `job '${as}'`;
  /** The work itself has to wait, for another. */
  const isDelayed = remedy.includes(`: let ${work} wait until `);
  const told = (names: boolean, delays = false) =>
    [names && isDelayed === delays, names && isDelayed !== delays] as const;
  switch (action.op) {
    case 'wait':
      return told(isFence(action.fence));
    case 'wait-point': {
      if (pointsOf(original, action.timeline, action.point).some(isFence)) return told(true);
      return told(submitsAfter(original, label).some(isFence), true);
    }
    case 'begin':
    case 'idle':
      return told(jobsOn(original, action.buf).some(isFence));
    case 'flip':
      return told(work.startsWith('scanout of '));
    case 'submit': {
      if (kind === 'without reservations') {
        if (isFence(action.as) && isDelayed) return told(true, true);
        const isPromised = promisesOn(original, action).length > 0;
        return told([...(isPromised ? [] : [action.as]), ...conflictsOf(original, action)].some(isFence));
      }
      return action.waits.some(isFence) ? told(true) : told(isFence(action.as), true);
    }
    default:
      return [false, false];
  }
}

/** Fences of the jobs that the task of step `label` submits behind it. */
function submitsAfter(program: Program, label: string): string[] {
  for (const { steps } of tasksOf(program)) {
    const at = steps.findIndex((step) => step.label === label);
    if (at < 0) continue;
    return steps.slice(at).flatMap(({ action }) => (action.op === 'submit' ? [action.as] : []));
  }
  return [];
}

/** Fences that a point of a timeline stands for. */
function pointsOf(program: Program, timeline: string, point: number): string[] {
  const actions = tasksOf(program).flatMap(({ steps }) => steps.map(({ action }) => action));
  return actions.flatMap((action) =>
    action.op === 'add-point' && action.timeline === timeline && action.point <= point ? [action.fence] : [],
  );
}

/** Jobs that touch `buf`. */
function jobsOn(program: Program, buf: string): string[] {
  const actions = tasksOf(program).flatMap(({ steps }) => steps.map(({ action }) => action));
  return actions.flatMap((action) =>
    action.op === 'submit' && [...action.job.reads, ...action.job.writes].some((access) => access.buf === buf)
      ? [action.as]
      : [],
  );
}

/** Fences that tasks leave in the reservations of the buffers of `action`, to signal them by hand. */
function promisesOn(program: Program, { job }: Extract<Action, { readonly op: 'submit' }>): string[] {
  const bufs = [...job.reads, ...job.writes].map(({ buf }) => buf);
  return tasksOf(program).flatMap(({ steps }) =>
    steps.flatMap(({ action }) =>
      action.op === 'fence' && action.writes !== undefined && bufs.includes(action.writes) ? [action.as] : [],
    ),
  );
}

/** Jobs that share a buffer with `action`. */
function conflictsOf(program: Program, action: Extract<Action, { readonly op: 'submit' }>): string[] {
  if (!action.synced) return [];
  return [...action.job.reads, ...action.job.writes].flatMap(({ buf }) => jobsOn(program, buf));
}

function namesMisuse(action: Action, { call }: DmaDebugFacts): boolean {
  switch (action.op) {
    case 'sync-cpu':
      return /^dmaSync\w+ForCpu$/.test(call.call);
    case 'sync-device':
      return /^dmaSync\w+ForDevice$/.test(call.call);
    case 'dma-unmap':
      return call.call.startsWith('dmaUnmap');
    default:
      return false;
  }
}

function namesBracket(action: Action, outcome: Outcome, { buf, call, remedy }: BracketFacts): boolean {
  if (action.op !== 'begin' && action.op !== 'end') return false;
  if (buf !== outcome.bufs.get(action.buf)) return false;
  if (action.by === 'kernel') {
    const made = new RegExp(`^${action.op}CpuAccess`);
    const asked = DIRS[action.access].some((dir) =>
      new RegExp(`${action.op}CpuAccess(Partial)?\\(${dir}`).test(remedy),
    );
    return made.test(call) || asked;
  }
  const step = action.op === 'begin' ? 'START' : 'END';
  return call.includes(`${step} |`) || FLAGS[action.access].some((flag) => remedy.includes(`${step} | ${flag})`));
}

/** Whether `text` asks for the end that `action` is. */
function namesEnd(action: Action, text: string): boolean {
  switch (action.op) {
    case 'close':
      return /close/.test(text);
    case 'put':
      return /put/.test(text);
    case 'munmap':
      return /munmap/.test(text);
    case 'vunmap':
      return /vunmap/i.test(text);
    case 'detach':
      return /detach/.test(text);
    case 'unmap':
      return /unmap/i.test(text);
    case 'release':
      return /release|detach|unmap|put\(\)/i.test(text);
    case 'dma-unmap':
      return /dmaUnmap|unmap/.test(text);
    case 'free':
      return /free/i.test(text);
    default:
      return false;
  }
}
