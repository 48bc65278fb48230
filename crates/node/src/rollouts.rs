//! Rollouts: from step to step while the candidate is no worse than the stable revision, and back when it is.
//!
//! Time is measured by a clock that cannot be set. A node that was started anew begins the step that it finds anew.
//! A step begins from what was counted at the look that ended the one before: what comes between two looks is judged too.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenon_edge::CounterSnapshot;
use tenon_model::{AppId, RevisionNumber, RolloutPlan, Seen, Verdict};
use tenon_state::desired::{AppRecord, ChangeError, Copies, Ended, Phase, RolloutRecord};

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

impl Rollouts {
    /// The step that a rollout is at: the one that is held, or one that begins.
    fn step(&mut self, id: &AppId, rollout: &RolloutRecord, counts: &Counts, now: Instant) -> &mut Held {
        match self.held.entry(id.clone()) {
            Entry::Vacant(place) => place.insert(Held::begin(rollout, None, counts, now)),
            Entry::Occupied(place) => {
                let held = place.into_mut();
                if !held.is_of(rollout) {
                    *held = Held::begin(rollout, Some(held), counts, now);
                }
                held
            }
        }
    }
}

/// A step: since when, and what both revisions had counted then.
#[derive(Debug)]
struct Held {
    candidate: RevisionNumber,
    step: u32,
    /// When it began, or began anew because it was paused.
    since: Instant,
    began: Instant,
    before: Counts,
    /// What both had counted when they were last looked at.
    looked: Counts,
    /// Crashes of both at the looks of the last moments.
    looks: VecDeque<(Instant, u64, u64)>,
}

/// What both revisions had counted at one moment.
#[derive(Clone, Debug, Default)]
struct Counts {
    stable: CounterSnapshot,
    candidate: CounterSnapshot,
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
        if self.draining.load(Relaxed) {
            return;
        }
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
        let Some(counts) = self.counted(rollout, &app.id) else { return Ok(Move::Hold) };
        let now = Instant::now();
        let mut rollouts = self.held();
        let held = rollouts.step(&app.id, rollout, &counts, now);
        if rollout.phase == Phase::Paused {
            // The step begins anew when it is resumed; a candidate that fails is sent back all the same.
            held.since = now;
        }
        held.look(counts);
        let (stable, candidate) = held.seen();
        Ok(match held.judge(&plan, &stable, &candidate, now) {
            Move::Next | Move::Promote if rollout.phase == Phase::Paused => Move::Hold,
            to => to,
        })
    }

    /// Begins the step that an app's rollout is at, from what is counted now.
    pub(crate) fn begin_step(&self, app: &AppRecord) {
        if let Some(rollout) = app.open_rollout()
            && let Some(counts) = self.counted(rollout, &app.id)
        {
            self.held().step(&app.id, rollout, &counts, Instant::now());
        }
    }

    /// What the stable revision and the candidate have counted.
    fn counted(&self, rollout: &RolloutRecord, id: &AppId) -> Option<Counts> {
        let live = self.live();
        let snapshot = |number| live.revision(id, number).map(|it| it.slot.counters().snapshot());
        Some(Counts { stable: snapshot(rollout.from)?, candidate: snapshot(rollout.candidate)? })
    }

    fn go(&self, app: &AppRecord, to: Move) {
        let Some(rollout) = app.open_rollout() else { return };
        let (candidate, ended) = (rollout.candidate, self.ended(app));
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
                    Move::Promote => end_rollout(app, Phase::Promoted, None, ended),
                    Move::Back(why) => end_rollout(app, Phase::Reverted, Some(why.clone()), ended),
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

    /// How a rollout that ends now stood: what both revisions did since its last step began.
    pub(crate) fn ended(&self, app: &AppRecord) -> Ended {
        let (_, stable, candidate) = self.progress(app, None);
        let copies = app.open_rollout().and_then(|rollout| self.copies(&app.id, rollout.candidate));
        Ended { at: self.now(), stable, candidate, copies }
    }

    /// How the candidate's answers to copies have compared, since it came into being.
    pub(crate) fn copies(&self, id: &AppId, candidate: RevisionNumber) -> Option<Copies> {
        let seen = self.live().revision(id, candidate)?.slot.counters().snapshot();
        Some(Copies { same: seen.shadow_same, different: seen.shadow_different })
    }

    /// How long the step is still held, and what both revisions did since it began; of a rollout that has ended, what
    /// they had done by then.
    pub(crate) fn progress(
        &self,
        app: &AppRecord,
        plan: Option<&RolloutPlan>,
    ) -> (Option<Duration>, Seen, Seen) {
        let nothing = (None, Seen::default(), Seen::default());
        let Some(rollout) = &app.rollout else { return nothing };
        if let Some(ended) = &rollout.ended {
            return (None, ended.stable, ended.candidate);
        }
        let counted = self.counted(rollout, &app.id);
        let rollouts = self.held();
        let held = rollouts.held.get(&app.id).filter(|held| held.candidate == rollout.candidate);
        let (Some(counts), Some(held)) = (counted, held) else { return nothing };
        let at = usize::try_from(held.step).unwrap_or(usize::MAX);
        let hold = plan.and_then(|plan| plan.steps.get(at)).map(|step| step.hold);
        let left = hold.map(|hold| hold.saturating_sub(held.since.elapsed()));
        let (stable, candidate) = held.since(&counts);
        (left, stable, candidate)
    }
}

impl Held {
    /// The step that a rollout is at now. `last` is what was held before: of the same rollout, it was looked at until the
    /// step ended, and this one begins with what came after.
    fn begin(rollout: &RolloutRecord, last: Option<&Self>, counts: &Counts, now: Instant) -> Self {
        let before = match last.filter(|held| held.candidate == rollout.candidate) {
            Some(held) => held.looked.clone(),
            // A candidate counts from nothing, and may have crashed often before it is first looked at; both do in a
            // process that was started anew.
            None => Counts { stable: counts.stable.clone(), candidate: CounterSnapshot::default() },
        };
        Self {
            candidate: rollout.candidate,
            step: rollout.step,
            since: now,
            began: now,
            looked: before.clone(),
            before,
            looks: VecDeque::new(),
        }
    }

    /// Whether it is the step that the rollout is at.
    fn is_of(&self, rollout: &RolloutRecord) -> bool {
        (self.candidate, self.step) == (rollout.candidate, rollout.step)
    }

    /// Notes what was counted until now.
    fn look(&mut self, counts: Counts) {
        // A revision that was brought into being anew counts from nothing.
        if counts.candidate.requests() < self.looked.candidate.requests() {
            self.before.candidate = CounterSnapshot::default();
        }
        if counts.stable.requests() < self.looked.stable.requests() {
            self.before.stable = CounterSnapshot::default();
        }
        self.looked = counts;
    }

    /// What both did since the step began, by the last look.
    fn seen(&self) -> (Seen, Seen) {
        self.since(&self.looked)
    }

    /// What both did since the step began.
    fn since(&self, counts: &Counts) -> (Seen, Seen) {
        let Counts { stable, candidate } = &self.before;
        (counts.stable.since(stable).seen(), counts.candidate.since(candidate).seen())
    }
}

#[cfg(test)]
mod tests {
    use tenon_edge::Outcome;
    use tenon_model::Step;

    use super::*;

    fn plan(percents: &[u8]) -> RolloutPlan {
        let step = |percent: &u8| Step { percent: *percent, hold: Duration::from_secs(10) };
        RolloutPlan { steps: percents.iter().map(step).collect(), ..RolloutPlan::at_once() }
    }

    fn held(step: u32, since: Instant) -> Held {
        Held::begin(&rollout(step), None, &Counts::default(), since)
    }

    fn rollout(step: u32) -> RolloutRecord {
        RolloutRecord {
            candidate: RevisionNumber(2),
            from: RevisionNumber(1),
            plan: String::new(),
            phase: Phase::Running,
            step,
            why: None,
            ended: None,
        }
    }

    /// A candidate that has crashed so often.
    fn crashed(count: u64) -> Counts {
        let mut candidate = CounterSnapshot::default();
        candidate.outcomes[Outcome::Trapped as usize] = count;
        candidate.latency[0] = count;
        Counts { candidate, ..Counts::default() }
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

    #[test]
    fn what_comes_between_two_looks_counts_in_the_step_that_begins() {
        let began = Instant::now();
        let mut first = Held::begin(&rollout(0), None, &crashed(2), began);
        assert_eq!(first.since(&crashed(2)).1.crashes, 2, "a candidate counts from its first request");
        first.look(crashed(3));
        assert!(!first.is_of(&rollout(1)));
        // The step has changed, and until the next look the candidate crashed twelve times.
        let mut second = Held::begin(&rollout(1), Some(&first), &crashed(15), began + LOOK);
        second.look(crashed(15));
        let (stable, candidate) = second.seen();
        assert_eq!((stable.crashes, candidate.crashes), (0, 12));
        let moved = second.judge(&plan(&[5, 50]), &stable, &candidate, began + LOOK);
        assert!(matches!(moved, Move::Back(_)), "{moved:?}");
        // Another rollout's candidate has nothing to do with it.
        let other = RolloutRecord { candidate: RevisionNumber(3), ..rollout(0) };
        assert_eq!(Held::begin(&other, Some(&second), &crashed(1), began).since(&crashed(1)).1.crashes, 1);
    }

    #[test]
    fn a_revision_that_counts_anew_is_judged_by_what_it_counts_then() {
        let mut held = Held::begin(&rollout(0), None, &crashed(0), Instant::now());
        held.look(crashed(50));
        held.look(crashed(4));
        held.look(crashed(7));
        assert_eq!(held.seen().1.crashes, 7);
    }
}
