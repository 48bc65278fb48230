//! Rollouts: from step to step while the candidate is no worse than the stable revision, and back when it is.
//!
//! Time is measured by a clock that cannot be set. A node that was started anew begins the step that it finds anew.

use std::collections::{HashMap, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenon_edge::CounterSnapshot;
use tenon_model::{AppId, RevisionNumber, RolloutPlan, Seen, Verdict};
use tenon_state::desired::{AppRecord, ChangeError, Phase};

use crate::journey::end_rollout;
use crate::node::{Inner, NODE, read_plan};

/// How often all rollouts are looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// Crashes are a burst when they come within this time.
const BURST: Duration = Duration::from_secs(2);

/// The steps that are being held.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    held: HashMap<AppId, Held>,
}

/// A step: since when, and what both revisions had counted then.
#[derive(Debug)]
struct Held {
    candidate: RevisionNumber,
    step: u32,
    /// When it began, or began anew because it was paused.
    since: Instant,
    began: Instant,
    before: (CounterSnapshot, CounterSnapshot),
    /// Crashes of both at the looks of the last moments.
    looks: VecDeque<(Instant, u64, u64)>,
}

/// What is to be done with a rollout.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Hold,
    Next,
    Promote,
    Back(String),
}

impl Held {
    /// What to do, by what was seen until now.
    fn judge(&mut self, plan: &RolloutPlan, stable: &Seen, candidate: &Seen, now: Instant) -> Move {
        self.looks.push_back((now, stable.crashes, candidate.crashes));
        while self.looks.len() > 1
            && self.looks.front().is_some_and(|look| now.duration_since(look.0) > BURST)
        {
            self.looks.pop_front();
        }
        let (stable_before, candidate_before) = self
            .looks
            .front()
            .filter(|_| now.duration_since(self.began) > BURST)
            .map_or((0, 0), |look| (look.1, look.2));
        let lately =
            |seen: &Seen, before: u64| Seen { crashes: seen.crashes.saturating_sub(before), ..*seen };
        let verdict =
            plan.tolerance.judge(&lately(stable, stable_before), &lately(candidate, candidate_before));
        if let Verdict::Revert(worse) = verdict {
            return Move::Back(worse.to_string());
        }
        let at = usize::try_from(self.step).unwrap_or(usize::MAX);
        match plan.steps.get(at) {
            // Only somebody can say what becomes of it.
            None => Move::Hold,
            Some(step) if now.duration_since(self.since) < step.hold => Move::Hold,
            Some(_) if at + 1 < plan.steps.len() => Move::Next,
            Some(_) => Move::Promote,
        }
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Rollouts> {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all rollouts that run, and moves those that are to move.
    pub(crate) fn look_at_rollouts(&self) {
        let (_, apps) = self.desired.apps();
        let open: Vec<_> = apps.iter().filter(|app| app.open_rollout().is_some()).collect();
        self.held().held.retain(|id, _| open.iter().any(|app| app.id == *id));
        for app in open {
            match self.look_at(app) {
                Ok(Move::Hold) => {}
                Ok(to) => self.go(app, to),
                Err(cause) => tracing::error!(app = %app.id, cause, "a rollout cannot be looked at"),
            }
        }
    }

    fn look_at(&self, app: &AppRecord) -> Result<Move, String> {
        let Some(rollout) = app.open_rollout() else { return Ok(Move::Hold) };
        let plan = read_plan(&rollout.plan).map_err(|refused| refused.0.title)?;
        let Some((stable, candidate)) = self.counted(app) else { return Ok(Move::Hold) };
        let now = Instant::now();
        let mut rollouts = self.held();
        let held =
            rollouts.held.entry(app.id.clone()).or_insert_with(|| Held::begin(app, &stable, &candidate, now));
        if (held.candidate, held.step) != (rollout.candidate, rollout.step) {
            *held = Held::begin(app, &stable, &candidate, now);
        }
        if rollout.phase == Phase::Paused {
            // The step begins anew when it is resumed; a candidate that fails is sent back all the same.
            held.since = now;
        }
        let (stable, candidate) =
            (stable.since(&held.before.0).seen(), candidate.since(&held.before.1).seen());
        Ok(match held.judge(&plan, &stable, &candidate, now) {
            Move::Next | Move::Promote if rollout.phase == Phase::Paused => Move::Hold,
            to => to,
        })
    }

    /// What the stable revision and the candidate have counted.
    fn counted(&self, app: &AppRecord) -> Option<(CounterSnapshot, CounterSnapshot)> {
        let rollout = app.rollout.as_ref()?;
        let live = self.live();
        let snapshot = |number| live.revision(&app.id, number).map(|it| it.slot.counters().snapshot());
        Some((snapshot(rollout.from)?, snapshot(rollout.candidate)?))
    }

    fn go(&self, app: &AppRecord, to: Move) {
        let Some(rollout) = app.open_rollout() else { return };
        let candidate = rollout.candidate;
        let (what, detail) = match &to {
            Move::Hold => return,
            Move::Next => ("step", format!("{candidate} step {}", rollout.step + 1)),
            Move::Promote => ("promote", format!("{candidate} has taken all steps")),
            Move::Back(why) => ("revert", format!("{candidate} goes: {why}")),
        };
        let done =
            self.desired.point(
                self.by(NODE),
                &app.id,
                Some(app.generation),
                what,
                &detail,
                |app| match &to {
                    Move::Next => match app.rollout.as_mut() {
                        Some(rollout) => {
                            rollout.step += 1;
                            Ok(())
                        }
                        None => Err(ChangeError::Refused("no rollout runs")),
                    },
                    Move::Promote => end_rollout(app, Phase::Promoted, None),
                    Move::Back(why) => end_rollout(app, Phase::Reverted, Some(why.clone())),
                    Move::Hold => Ok(()),
                },
            );
        match self.noted(done) {
            Ok(_) => {
                tracing::info!(app = %app.id, what, detail, "a rollout moves");
                self.reconcile();
            }
            // Somebody else was faster: it is looked at anew.
            Err(refused) => {
                tracing::warn!(app = %app.id, what, code = refused.0.code, "a rollout does not move");
            }
        }
    }

    /// How long the step is still held, and what both revisions did since it began.
    pub(crate) fn progress(
        &self,
        app: &AppRecord,
        plan: Option<&RolloutPlan>,
    ) -> (Option<Duration>, Seen, Seen) {
        let counted = self.counted(app);
        let rollouts = self.held();
        let (Some((stable, candidate)), Some(held)) = (counted, rollouts.held.get(&app.id)) else {
            return (None, Seen::default(), Seen::default());
        };
        let at = usize::try_from(held.step).unwrap_or(usize::MAX);
        let hold = plan.and_then(|plan| plan.steps.get(at)).map(|step| step.hold);
        let left = hold.map(|hold| hold.saturating_sub(held.since.elapsed()));
        (left, stable.since(&held.before.0).seen(), candidate.since(&held.before.1).seen())
    }
}

impl Held {
    fn begin(app: &AppRecord, stable: &CounterSnapshot, candidate: &CounterSnapshot, now: Instant) -> Self {
        let rollout = app.rollout.as_ref();
        let step = rollout.map_or(0, |rollout| rollout.step);
        // A candidate counts from nothing, and may have crashed often before it is first looked at.
        let candidate = if step == 0 { CounterSnapshot::default() } else { candidate.clone() };
        Self {
            candidate: rollout.map_or(app.stable, |rollout| rollout.candidate),
            step,
            since: now,
            began: now,
            before: (stable.clone(), candidate),
            looks: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tenon_model::Step;

    use super::*;

    fn plan(percents: &[u8]) -> RolloutPlan {
        let step = |percent: &u8| Step { percent: *percent, hold: Duration::from_secs(10) };
        RolloutPlan { steps: percents.iter().map(step).collect(), ..RolloutPlan::at_once() }
    }

    fn held(step: u32, since: Instant) -> Held {
        let before = (CounterSnapshot::default(), CounterSnapshot::default());
        Held { candidate: RevisionNumber(2), step, since, began: since, before, looks: VecDeque::new() }
    }

    fn seen(requests: u64, errors: u64, crashes: u64) -> Seen {
        Seen { requests, errors, crashes, p99_us: 100 }
    }

    #[test]
    fn a_step_is_held_and_then_the_next_comes_and_after_the_last_it_is_stable() {
        let began = Instant::now();
        let well = seen(1_000, 0, 0);
        let after = |step, seconds| {
            held(step, began).judge(&plan(&[5, 50]), &well, &well, began + Duration::from_secs(seconds))
        };
        assert_eq!(
            [after(0, 9), after(0, 10), after(1, 9), after(1, 10)],
            [Move::Hold, Move::Next, Move::Hold, Move::Promote]
        );
        // Without steps only somebody can say so.
        let chosen = held(0, began).judge(&plan(&[]), &well, &well, began + Duration::from_secs(1_000));
        assert_eq!(chosen, Move::Hold);
    }

    #[test]
    fn crashes_are_a_burst_only_together() {
        let began = Instant::now();
        let mut held = held(0, began);
        let mut look = |millis, crashes| {
            let now = began + Duration::from_millis(millis);
            held.judge(&plan(&[5]), &seen(100_000, 0, 0), &seen(100_000, crashes, crashes), now)
        };
        // One crash a second, for as long as the step is held, is not one.
        for second in 0..9 {
            assert_eq!(look(second * 1_000, second), Move::Hold);
        }
        assert_eq!(look(9_200, 9), Move::Hold);
        assert!(matches!(look(9_400, 19), Move::Back(why) if why.contains("crashed")));
    }

    #[test]
    fn crashes_from_the_start_count_at_once() {
        let began = Instant::now();
        let moved = held(0, began).judge(&plan(&[5]), &seen(100, 0, 0), &seen(12, 10, 10), began + LOOK);
        assert!(matches!(moved, Move::Back(_)), "{moved:?}");
    }
}
