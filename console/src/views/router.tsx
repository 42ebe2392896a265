// What the router goes by, and how well it does on prompts that it was not fitted on.

import type { JSX } from "preact";
import { get } from "../api";
import * as format from "../format";
import { type Column, Table } from "../parts/table";
import { Bars, Empty, Failure, Figure, Meter, Tag, useLoaded, Waiting } from "../parts/ui";
import type { Report, RouterFit, RouterShown } from "../types";

type Method = readonly [name: string, text: string];

const METHODS: readonly Method[] = [
  ["random", "random"],
  ["best_single", "best single expert"],
  ["two_level", "two-level"],
  ["skill", "skill"],
  ["both", "both together"],
  ["default", "default: what answers"],
  ["category_oracle", "category oracle"],
  ["prompt_oracle", "prompt oracle"],
];
const NAMES = new Map(METHODS);

export function RouterView(): JSX.Element {
  const { value, error, loading, again } = useLoaded((signal) => get<RouterShown>("/v1/router", signal), []);
  const categories = Object.keys(value?.quality ?? {}).length;
  return (
    <div class="page">
      <div class="page-head">
        <h1>Router</h1>
        {value ? (
          <span class="row wrap">
            <Tag tone="accent">{value.name}</Tag>
            {value.encoder ? <Tag>reads with {value.encoder}</Tag> : null}
            {value.experts.length ? <Tag>{format.counted(value.experts.length, "expert")}</Tag> : null}
            {categories ? <Tag>{format.counted(categories, "category", "categories")}</Tag> : null}
          </span>
        ) : null}
      </div>
      {error ? <Failure error={error} again={again} /> : null}
      {!value && loading ? <Waiting what="Asking for the router" /> : null}
      {value ? (
        <>
          {value.evaluation ? <Evaluation evaluation={value.evaluation} /> : null}
          {value.fit ? <Fit fit={value.fit} /> : null}
          {Object.keys(value.figures).length ? <Figures figures={value.figures} /> : null}
          {value.evaluation ? null : <NoEvaluation router={value} />}
        </>
      ) : null}
    </div>
  );
}

function NoEvaluation({ router }: { router: RouterShown }): JSX.Element {
  return (
    <section class="card" aria-label="Evaluation">
      <Empty title="No evaluation is kept for this router">
        {router.name === "fixed" ? (
          <p>It always asks the same experts, so there is nothing to evaluate.</p>
        ) : (
          <p>
            Evaluate it on prompts that it was not fitted on, and keep the report:{" "}
            <code>coe router eval DIR FILE --split test --save</code>
          </p>
        )}
      </Empty>
    </section>
  );
}

function Evaluation({ evaluation }: { evaluation: NonNullable<RouterShown["evaluation"]> }): JSX.Element {
  const { report } = evaluation;
  const score = (method: string) => report[method] as number | null | undefined;
  const gain = report.gain.default as number | null;
  const methods = METHODS.filter(([method]) => score(method) != null);
  return (
    <>
      <section class="card" aria-label="Evaluation">
        <header>
          <h2>Evaluation</h2>
          <span class="muted">
            {format.counted(report.n, "prompt")} of {evaluation.prompts}, {report.how}, {format.ago(evaluation.at)}
          </span>
        </header>
        <div class="body stack">
          <div class="figures">
            <Figure value={`${score("default")} %`} label="of answers right, by default" />
            <Figure value={`${score("best_single")} %`} label={`by ${report.best_single_expert} alone`} />
            <Figure value={signed(gain, 1) ?? "–"} label="points gained" />
            <Figure value={`${score("prompt_oracle")} %`} label="if every choice were the best" />
          </div>
          <div>
            {Object.entries(report.verdict)
              .filter(([method]) => !method.startsWith("vote"))
              .sort(([a], [b]) => Number(b === "default") - Number(a === "default"))
              .map(([method, sentence]) => (
                <p key={method} class={method === "default" ? "" : "small muted"}>
                  {sentence}
                </p>
              ))}
          </div>
        </div>
        <Table label="Scores of methods" rows={methods} columns={columnsOf(report)} idOf={([method]) => method} />
      </section>
      <ByCategory report={report} />
    </>
  );
}

const signed = (points: number | null | undefined, digits: number): string | null =>
  points == null ? null : `${points >= 0 ? "+" : ""}${points.toFixed(digits)}`;

function columnsOf(report: Report): Column<Method>[] {
  const score = (method: string) => report[method] as number;
  return [
    { title: "Method", cell: ([method, name]) => (method === "default" ? <strong>{name}</strong> : name) },
    { title: "Score", class: "score", cell: ([method, name]) => <Meter share={score(method) / 100} label={`${name}: ${score(method)} %`} /> },
    { title: "%", class: "num", cell: ([method]) => score(method).toFixed(1) },
    { title: "Gain", class: "num", cell: ([method]) => signed(report.gain[method] as number | null | undefined, 2) },
    {
      title: "95 % interval",
      class: "num wide muted",
      cell: ([method]) => (report.interval[method] as [number, number] | null | undefined)?.map((bound) => bound.toFixed(2)).join(" to "),
    },
    { title: "Calibration error", class: "num wide muted", cell: ([method]) => report.calibration[method]?.ece.toFixed(3) },
  ];
}

function ByCategory({ report }: { report: Report }): JSX.Element | null {
  const categories = Object.entries(report.categories);
  if (!categories.length) return null;
  const methods = METHODS.filter(([method]) => categories.some(([, row]) => row[method] != null) && method !== "random");
  return (
    <section class="card" aria-label="Evaluation by category">
      <header>
        <h2>By category</h2>
        <span class="muted">% of answers right</span>
      </header>
      <Table
        label="Table of scores by category"
        class="compact"
        head
        rows={categories}
        idOf={([category]) => category}
        columns={[
          { title: "Category", cell: ([category]) => category },
          { title: "Prompts", class: "num muted", cell: ([, row]) => row.n },
          ...methods.map(([method, name]) => ({
            title: name.split(":")[0],
            class: "num",
            cell: ([, row]: (typeof categories)[number]) => row[method]?.toFixed(1) ?? "–",
          })),
        ]}
      />
    </section>
  );
}

const descending = (scores: Record<string, number>): [string, number][] => Object.entries(scores).sort((a, b) => b[1] - a[1]);

function Fit({ fit }: { fit: RouterFit }): JSX.Element {
  const scores = descending(fit.scores).map(([method, share]) => {
    const gain = fit.gains[method];
    const interval = gain ? `, gains ${gain.map((bound) => (100 * bound).toFixed(1)).join(" to ")}` : "";
    return { name: NAMES.get(method) ?? method, share, text: `${format.percent(share, 1)}${interval}` };
  });
  const means = descending(fit.means).map(([name, share]) => ({ name, share, text: format.percent(share, 1) }));
  return (
    <section class="card" aria-label="Fit">
      <header>
        <h2>When it was fitted</h2>
        <span class="muted">
          {format.counted(fit.prompts, "prompt")}, {fit.folds}-fold cross-validation
        </span>
      </header>
      <div class="body stack">
        <p>
          {fit.default === "best_single"
            ? `No gain over ${fit.best_single}, the best single expert, was shown: that one answers.`
            : `${NAMES.get(fit.default) ?? fit.default} answers: it leads ${fit.best_single}, the best single expert.`}
        </p>
        <Bars label="Scores in cross-validation" rows={scores} />
        <h3>Each expert alone</h3>
        <Bars label="Mean score of each expert" rows={means} />
      </div>
    </section>
  );
}

const Figures = ({ figures }: { figures: Record<string, number> }): JSX.Element => (
  <section class="card" aria-label="Figures">
    <header>
      <h2>When it was fitted</h2>
      <span class="muted">on prompts that were held out</span>
    </header>
    <div class="body">
      <div class="figures">
        {Object.entries(figures).map(([name, value]) => (
          <Figure key={name} value={Number.isInteger(value) ? format.count(value) : value.toFixed(3)} label={format.words(name)} />
        ))}
      </div>
    </div>
  </section>
);
