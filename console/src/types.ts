// What the API answers, as far as it is shown. docs/api.md has the whole of it.

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface Call {
  expert: string;
  role: string;
  usage: Usage | null;
  seconds: number;
  cost: number | null;
  error: string | null;
  phases?: Record<string, number | null> | null;
}

export interface Explain {
  weights: Record<string, number>;
  /** Skill -> points for the first of the experts, the largest first. */
  skills?: Record<string, number>;
  candidates: string[];
  removed: Record<string, string>;
  router_seconds: number;
  votes: Record<string, number>;
  scores: Record<string, number>;
  drafts?: { expert: string; text: string }[];
}

export interface Coe {
  request_id: string;
  expert: string | null;
  experts: string[];
  category: string | null;
  probabilities: Record<string, number>;
  margin: number;
  reason: string;
  router: string;
  aggregator: string;
  used: string[];
  failed: Record<string, string>;
  calls: Call[];
  note: string;
  explain?: Explain;
}

export interface Model {
  id: string;
  coe: {
    kind: string;
    description?: string;
    family?: string;
    experts?: string[];
    aggregator?: string;
    aggregators?: string[];
    parameters?: number | null;
    context_length?: number | null;
    price?: { input: number; output: number };
    k?: number;
  };
}

export interface Engine {
  family: string;
  why?: string;
  active?: string | null;
  running?: number;
  waiting?: number;
  queued?: Record<string, number>;
  tiers?: Record<string, string>;
  swaps?: number;
  swap_seconds?: number;
  oldest_wait?: number;
  tier_bytes?: Record<string, number>;
  room_bytes?: Record<string, number>;
  restarts?: number;
  last_event?: number | null;
}

export interface Swap {
  family: string;
  number: number;
  at: number;
  kind: string;
  image: string;
  source: string;
  target: string;
  bytes: number;
  seconds: number;
  why: string;
}

export interface ExpertRow {
  name: string;
  kind: string;
  family: string;
  state: string;
  tier: string | null;
  why: string | null;
  circuit: string | null;
  active: boolean;
  queued: number;
  description: string;
}

export interface Progress {
  id: string;
  endpoint: string;
  status: string;
  created_at: number;
  request_counts: { total: number; completed: number; failed: number };
  steps: { total: number; done: number };
}

export interface Batch extends Omit<Progress, "steps"> {
  input_file_id: string;
  output_file_id: string | null;
  error_file_id: string | null;
  usage: { input_tokens: number; output_tokens: number; total_tokens: number };
  errors: { data: { message?: string; line?: number | null }[] } | null;
  coe: {
    dry_run: boolean;
    plan: Plan | null;
  };
}

export interface Plan {
  loads: number;
  distinct_experts: number;
  seconds: number | null;
  seconds_left: number | null;
  groups: { stage: string; family: string | null; expert: string | null; steps: number; done: number }[];
}

export interface Used {
  used: number;
  limit: number | null;
}

export interface Key {
  id: string;
  name: string;
  prefix: string;
  created: number;
  expires: number | null;
  enabled: boolean;
  state: "active" | "disabled" | "expired";
  experts: string[] | "all";
  ensembles: string[] | "all";
  admin: boolean;
  priority: string;
  limits: Record<string, number | null>;
  usage?: Record<string, Used>;
}

export interface RouterFit {
  prompts: number;
  default: string;
  folds: number;
  best_single: string;
  scores: Record<string, number>;
  votes: Record<string, number>;
  gains: Record<string, [number, number]>;
  means: Record<string, number>;
}

export interface Report {
  n: number;
  how: string;
  gain: Record<string, number | null | Record<string, number | null>>;
  interval: Record<string, [number, number] | null | Record<string, [number, number] | null>>;
  verdict: Record<string, string>;
  best_single_expert: string;
  experts: Record<string, number>;
  vote: Record<string, number | null>;
  calibration: Record<string, { ece: number; brier: number }>;
  categories: Record<string, Record<string, number>>;
  [method: string]: unknown;
}

export interface RouterShown {
  name: string;
  encoder: string | null;
  experts: string[];
  quality: Record<string, Record<string, { score: number; prompts: number | null }>>;
  figures: Record<string, number>;
  fit: RouterFit | null;
  evaluation: { at: number; prompts: string; report: Report } | null;
}

export interface RouteSummary {
  id: string;
  created: number;
  model: string;
  outcome: string;
  key: { id: string; name: string } | null;
  expert: string | null;
  experts: string[];
  category: string | null;
  router: string;
  aggregator: string;
  reason: string;
  margin: number;
  seconds: number | null;
  first_token_seconds: number | null;
  router_seconds: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: number | null;
  score: number | null;
}

export interface RouteRecord extends RouteSummary {
  stream: boolean;
  prompt: string | null;
  feedback: { at: number; score: number } | null;
  trace_id: string | null;
  coe: Coe;
}

export interface List<T> {
  data: T[];
  has_more?: boolean;
  last_id?: string | null;
}
