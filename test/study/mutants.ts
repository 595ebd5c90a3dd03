/** Planted bugs: each synchronising step of a program deleted, weakened, or moved, one at a time. */
import { type Access, type Action, type Dir, type Program, type Step, type TaskDecl, tasksOf } from './program.ts';

/** A program with one planted bug. */
export interface Mutant {
  /** `'heap-capture / work1:begin / delete'` */
  readonly name: string;
  readonly original: Program;
  readonly program: Program;
  /** The step that was changed, and where it stands or stood: the label stays. */
  readonly label: string;
  readonly kind: string;
  /** The call as it should be. */
  readonly action: Action;
}

/** What takes the place of a step. */
interface Change {
  readonly kind: string;
  /** `null`: it is not there. */
  readonly action: Action | null;
  /** It comes after the next access of its task instead. */
  readonly isLate?: boolean;
}

const DELETED: readonly Action['op'][] = [
  'begin',
  'end',
  'sync-cpu',
  'sync-device',
  'dma-unmap',
  'unmap',
  'detach',
  'close',
  'put',
  'munmap',
  'vunmap',
  'release',
  'free',
  'wait',
  'idle',
  'wait-point',
  'barrier',
];
const MOVED: readonly Action['op'][] = [
  'begin',
  'end',
  'sync-cpu',
  'sync-device',
  'dma-unmap',
  'wait',
  'idle',
  'wait-point',
  'barrier',
];
const ACCESSES: readonly Action['op'][] = ['read', 'write', 'device-read', 'device-write', 'submit'];
const OTHER_ACCESS: Record<Access, readonly Access[]> = { read: ['write'], write: ['read'], rw: ['read', 'write'] };
const OTHER_DIRS: Record<Dir, readonly Dir[]> = {
  'to-device': ['from-device'],
  'from-device': ['to-device'],
  bidirectional: ['to-device', 'from-device'],
};

/** All mutants of `program`. */
export function mutantsOf(program: Program): Mutant[] {
  const fences = fencesOf(program);
  return tasksOf(program).flatMap((task) =>
    task.steps.flatMap((step) => {
      if (step.isRepeat === true) return [];
      return changesOf(program, fences, task, step).map((change) => mutant(program, task, step, change));
    }),
  );
}

function mutant(program: Program, task: TaskDecl, step: Step, change: Change): Mutant {
  const { label, action } = step;
  const changed = { ...task, steps: changedSteps(task.steps, step, change) };
  const replaced = (one: TaskDecl) => (one === task ? changed : one);
  return {
    name: `${program.name} / ${label} / ${change.kind}`,
    original: program,
    program: {
      ...program,
      setup: replaced(program.setup),
      tasks: program.tasks.map(replaced),
      finish: replaced(program.finish),
    },
    label,
    kind: change.kind,
    action,
  };
}

function changedSteps(steps: readonly Step[], step: Step, { action, isLate }: Change): Step[] {
  const at = steps.indexOf(step);
  const instead: Step = { label: step.label, action: isLate === true || action === null ? { op: 'nothing' } : action };
  const changed = steps.with(at, instead);
  if (isLate !== true) return changed;
  const late: Step = { label: `${step.label} (late)`, action: step.action };
  return changed.toSpliced(nextAccess(steps, at) + 1, 0, late);
}

function nextAccess(steps: readonly Step[], at: number): number {
  return steps.findIndex(({ action }, i) => i > at && ACCESSES.includes(action.op));
}

function changesOf(program: Program, fences: readonly string[], task: TaskDecl, { action, label }: Step): Change[] {
  const changes: Change[] = [];
  if (DELETED.includes(action.op)) changes.push({ kind: 'delete', action: null });
  const at = task.steps.findIndex((step) => step.label === label);
  if (MOVED.includes(action.op) && nextAccess(task.steps, at) >= 0) {
    changes.push({ kind: 'after the access', action, isLate: true });
  }
  return [...changes, ...weakened(program, fences, action)];
}

function weakened(program: Program, fences: readonly string[], action: Action): Change[] {
  switch (action.op) {
    case 'begin':
    case 'end': {
      const others = OTHER_ACCESS[action.access].map((access) => change(`${access} instead`, { ...action, access }));
      const isPartial = program.memory.find(({ name }) => name === action.buf)?.kind === 'own';
      if (!isPartial || action.by !== 'kernel') return others;
      const { at, bytes } = action.part ?? { at: 0, bytes: 512 };
      return [...others, change('half the range', { ...action, part: { at, bytes: bytes / 2 } })];
    }
    case 'sync-cpu':
    case 'sync-device':
      return [
        ...OTHER_DIRS[action.dir].map((dir) => change(`${dir} instead`, { ...action, dir })),
        halved(program, action),
      ];
    case 'dma-map':
      return [change('skipCpuSync', { ...action, skipSync: true })];
    case 'dma-unmap':
      return [
        change('skipCpuSync', { ...action, skipSync: true }),
        ...OTHER_DIRS[action.dir].slice(0, 1).map((dir) => change(`${dir} instead`, { ...action, dir })),
      ];
    case 'wait':
      return earlier(fences, action.fence).map((fence) => change('the fence before', { ...action, fence }));
    case 'wait-point':
      return action.point > 1 ? [change('the point before', { ...action, point: action.point - 1 })] : [];
    case 'flip':
      return [change('not waiting until it is shown', { ...action, waits: false })];
    case 'submit':
      return weakenedSubmit(fences, action);
    default:
      return [];
  }
}

function weakenedSubmit(fences: readonly string[], action: Extract<Action, { readonly op: 'submit' }>): Change[] {
  const { waits } = action;
  const changes = waits.flatMap((wait) => [
    change(`not waiting for ${wait}`, { ...action, waits: waits.filter((one) => one !== wait) }),
    ...earlier(fences, wait).map((fence) =>
      change(`waiting for ${fence} instead`, { ...action, waits: waits.map((one) => (one === wait ? fence : one)) }),
    ),
  ]);
  if (action.synced) changes.push(change('without reservations', { ...action, synced: false }));
  return changes;
}

function halved(program: Program, action: Extract<Action, { readonly op: 'sync-cpu' | 'sync-device' }>): Change {
  const { rect, part } = action;
  if (rect !== undefined)
    return change('half the rows', { ...action, rect: { ...rect, rows: Math.ceil(rect.rows / 2) } });
  const bytes = part?.bytes ?? sizeOf(program, action.map);
  return change('half the range', { ...action, part: { at: part?.at ?? 0, bytes: bytes / 2 } });
}

function sizeOf(program: Program, map: string): number {
  for (const { steps } of tasksOf(program)) {
    for (const { action } of steps) if (action.op === 'dma-map' && action.as === map) return action.bytes;
  }
  throw new Error(`${program.name}: nothing maps ${map}`);
}

function change(kind: string, action: Action): Change {
  return { kind, action };
}

/** Names of fences, in the order in which steps make them. */
function fencesOf(program: Program): string[] {
  const steps = tasksOf(program).flatMap((task) => task.steps);
  return steps.flatMap(({ action }) => (action.op === 'fence' || action.op === 'submit' ? [action.as] : []));
}

/** The fence of the same kind before `fence`, if there is one. */
function earlier(fences: readonly string[], fence: string): string[] {
  const kind = fence.replace(/\d+$/, '');
  const same = fences.filter((one) => one.replace(/\d+$/, '') === kind);
  return same.slice(0, same.indexOf(fence)).slice(-1);
}
