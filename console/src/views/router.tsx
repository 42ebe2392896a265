// What the router goes by, and how well it does on prompts that it was not fitted on.

import type { JSX } from "preact";
import { get } from "../api";
import * as format from "../format";
import { Empty, Failure, Figure, Meter, Tag, useLoaded, Waiting } from "../parts/ui";
import type { Report, RouterFit, RouterShown } from "../types";

export const METHODS: readonly (readonly [string, string])[] = [
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
  return (
    <div class="page">
      <div class="page-head">
        <h1>Router</h1>
        {value ? (
          <span class="row wrap">
            <Tag tone="accent">{value.name}</Tag>
            {value.encoder ? <Tag>reads with {value.encoder}</Tag> : null}
            {value.experts.length ? <Tag>{value.experts.length} experts</Tag> : null}
            {Object.keys(value.quality).length ? <Tag>{Object.keys(value.quality).length} categories</Tag> : null}
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
            {format.count(report.n)} prompts of {evaluation.prompts}, {report.how}, {format.ago(evaluation.at)}
          </span>
        </header>
        <div class="body stack">
          <div class="figures">
            <Figure value={`${score("default")} %`} label="of answers right, by default" />
            <Figure value={`${score("best_single")} %`} label={`by ${report.best_single_expert} alone`} />
            <Figure value={gain === null || gain === undefined ? "–" : `${gain >= 0 ? "+" : ""}${gain.toFixed(1)}`} label="points gained" />
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
        <div class="scroll" tabIndex={0} role="region" aria-label="Scores of methods">
          <table>
            <thead>
              <tr>
                <th scope="col">Method</th>
                <th scope="col">Score</th>
                <th scope="col" class="num">%</th>
                <th scope="col" class="num">Gain</th>
                <th scope="col" class="num wide">95 % interval</th>
                <th scope="col" class="num wide">Calibration error</th>
              </tr>
            </thead>
            <tbody>
              {methods.map(([method, name]) => {
                const own = score(method) as number;
                const interval = report.interval[method] as [number, number] | null | undefined;
                const won = report.gain[method] as number | null | undefined;
                const calibration = report.calibration[method];
                return (
                  <tr key={method}>
                    <td>{method === "default" ? <strong>{name}</strong> : name}</td>
                    <td style={{ width: "34%" }}>
                      <Meter share={own / 100} label={`${name}: ${own} %`} />
                    </td>
                    <td class="num">{own.toFixed(1)}</td>
                    <td class="num">{won == null ? "" : `${won >= 0 ? "+" : ""}${won.toFixed(2)}`}</td>
                    <td class="num wide muted">{interval ? `${interval[0].toFixed(2)} to ${interval[1].toFixed(2)}` : ""}</td>
                    <td class="num wide muted">{calibration ? calibration.ece.toFixed(3) : ""}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      </section>
      <ByCategory report={report} />
    </>
  );
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
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of scores by category">
        <table class="compact">
          <thead>
            <tr>
              <th scope="col">Category</th>
              <th scope="col" class="num">Prompts</th>
              {methods.map(([method, name]) => (
                <th scope="col" class="num" key={method}>
                  {name.split(":")[0]}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {categories.map(([category, row]) => (
              <tr key={category}>
                <th scope="row">{category}</th>
                <td class="num muted">{row.n}</td>
                {methods.map(([method]) => (
                  <td class="num" key={method}>
                    {row[method] == null ? "–" : row[method].toFixed(1)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Fit({ fit }: { fit: RouterFit }): JSX.Element {
  const rows = Object.entries(fit.scores).sort((a, b) => b[1] - a[1]);
  const means = Object.entries(fit.means).sort((a, b) => b[1] - a[1]);
  return (
    <section class="card" aria-label="Fit">
      <header>
        <h2>When it was fitted</h2>
        <span class="muted">
          {format.count(fit.prompts)} prompts, {fit.folds}-fold cross-validation
        </span>
      </header>
      <div class="body stack">
        <p>
          {fit.default === "best_single"
            ? `No gain over ${fit.best_single}, the best single expert, was shown: that one answers.`
            : `${NAMES.get(fit.default) ?? fit.default} answers: it leads ${fit.best_single}, the best single expert.`}
        </p>
        <div class="bars" role="group" aria-label="Scores in cross-validation">
          {rows.map(([method, score]) => {
            const gain = fit.gains[method];
            return [
              <span key={`${method}-n`}>{NAMES.get(method) ?? method}</span>,
              <Meter key={`${method}-m`} share={score} label={`${method}: ${format.percent(score, 1)}`} />,
              <span class="num" key={`${method}-t`}>
                {format.percent(score, 1)}
                {gain ? <span class="muted"> ({(100 * gain[0]).toFixed(1)} to {(100 * gain[1]).toFixed(1)})</span> : null}
              </span>,
            ];
          })}
        </div>
        <h3>Each expert alone</h3>
        <div class="bars" role="group" aria-label="Mean score of each expert">
          {means.map(([expert, score]) => [
            <span class="name" key={`${expert}-n`}>
              {expert}
            </span>,
            <Meter key={`${expert}-m`} share={score} label={`${expert}: ${format.percent(score, 1)}`} />,
            <span class="num" key={`${expert}-t`}>
              {format.percent(score, 1)}
            </span>,
          ])}
        </div>
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
