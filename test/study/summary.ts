/** The figures of the study, and what is not as it should be. */
import { describeAction } from './program.ts';
import { type MutantClass, names, type Result } from './study.ts';

/** Figures. */
export interface Summary {
  readonly mutants: number;
  /** Bytes can go wrong, says the reference … */
  readonly wrongBytes: number;
  /** … an adversarial run gave a wrong byte or a report of one, */
  readonly found: number;
  /** a wrong byte, */
  readonly sawWrongByte: number;
  /** a report, */
  readonly reported: number;
  /** and the first report of some run names the planted call and its place, */
  readonly named: number;
  /** and that of every run that was looked at. */
  readonly alwaysNamed: number;
  /** and it is the call just as it was planted: no part of its direction, and not as the other way out. */
  readonly namedExactly: number;
  /** No byte can go wrong, but a rule is broken: something leaks, a bracket has no partner, a direction does not fit … */
  readonly brokenRule: number;
  /** … and that is reported, */
  readonly ruleReported: number;
  /** and the report names the planted call. */
  readonly ruleNamed: number;
  /** Nothing can go wrong … */
  readonly harmless: number;
  /** … and reports that came all the same; also reports of bytes where only a rule is broken. */
  readonly falseAlarms: number;
}

/** What is not as it should be with a mutant. */
export interface Gap {
  readonly mutant: string;
  readonly gap: 'not found' | 'not reported' | 'wrong call' | 'wrong place' | 'wrong side waits' | 'false alarm';
  readonly text: string;
}

/** Counts. */
export function summarise(results: readonly Result[]): Summary {
  const of = (kind: MutantClass) => results.filter((result) => result.class === kind);
  const wrong = of('wrong bytes');
  const rule = of('broken rule');
  return {
    mutants: results.length,
    wrongBytes: wrong.length,
    found: wrong.filter(({ byteSeed, reportSeed }) => byteSeed + reportSeed > 0).length,
    sawWrongByte: wrong.filter(({ byteSeed }) => byteSeed > 0).length,
    reported: wrong.filter(({ reportSeed }) => reportSeed > 0).length,
    named: wrong.filter(({ namingRuns }) => namingRuns > 0).length,
    alwaysNamed: wrong.filter(({ namingRuns, reportingRuns }) => namingRuns > 0 && namingRuns === reportingRuns).length,
    namedExactly: wrong.filter(({ report, namingRuns }) => namingRuns > 0 && report?.isExact === true).length,
    brokenRule: rule.length,
    ruleReported: rule.filter(({ reportSeed }) => reportSeed > 0).length,
    ruleNamed: rule.filter(({ isNamedOnce }) => isNamedOnce).length,
    harmless: of('harmless').length,
    falseAlarms: results.filter(({ falseAlarms }) => falseAlarms.length > 0).length,
  };
}

/** All gaps, in the order of the mutants. */
export function gapsOf(results: readonly Result[]): Gap[] {
  return results.flatMap((result) => {
    const gap = gapOf(result);
    return gap === null ? [] : [{ mutant: result.mutant.name, gap, text: textOf(result) }];
  });
}

/** The figures as text. */
export function formatTable(results: readonly Result[]): string {
  const s = summarise(results);
  return [
    `${s.mutants} mutants`,
    `${s.wrongBytes} can go wrong: ${s.found} found (${s.sawWrongByte} with a wrong byte, ${s.reported} reported), ${s.named} named by call and place, ${s.alwaysNamed} of them in every run, ${s.namedExactly} just as planted`,
    `${s.brokenRule} break a rule only: ${s.ruleReported} reported, ${s.ruleNamed} named`,
    `${s.harmless} can not go wrong`,
    `${s.falseAlarms} false alarms`,
  ].join('\n');
}

function gapOf({ class: kind, byteSeed, reportSeed, report, isNamedOnce, falseAlarms }: Result): Gap['gap'] | null {
  if (falseAlarms.length > 0) return 'false alarm';
  if (kind === 'harmless') return null;
  if (kind === 'wrong bytes' && byteSeed + reportSeed === 0) return 'not found';
  if (report === null) return 'not reported';
  if (names(report) || (kind === 'broken rule' && isNamedOnce)) return null;
  if (report.isReversed) return 'wrong side waits';
  return report.namesCall ? 'wrong place' : 'wrong call';
}

function textOf({ mutant, verdict, report, falseAlarms, reportingRuns, namingRuns }: Result): string {
  const { wrong, broken } = verdict;
  const may =
    wrong === null ? broken.join(', ') : `${wrong.label}[${wrong.offset}] may be ${wrong.value}, not ${wrong.right}`;
  const said = falseAlarms[0] ?? report;
  const told = said === null ? 'no report' : `${said.code}: ${said.text}`;
  return `${describeAction(mutant.action)} | ${may} | ${told} | named in ${namingRuns} of ${reportingRuns} runs`;
}
