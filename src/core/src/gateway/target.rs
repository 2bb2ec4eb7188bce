//! What is to be in the kernel: after a change of the cluster what it touches is compiled anew,
//! after one of the host, or where a violation shows, everything is.

use std::mem::take;

use super::{Gateway, Judged, Output, Target};
use crate::compile::{Kept, Update, compile, contested, sysctls_agree};
use crate::dataplane::{Before, Dataplane, Exposure};
use crate::lint::{keeps_clean, lint};
use crate::lower::{TouchedObjects, lower_with_shares};
use crate::model::Touched;
use crate::objects::KernelState;

/// So many Mappings are recompiled one by one however few there are.
const FEW: usize = 64;
/// Beyond a quarter of all, everything at once is cheaper: a Mapping that comes to an address moves
/// the rules of those behind it.
const SHARE: usize = 4;

impl Gateway {
    /// Follows the wishes. Returns the objects that may differ from before; `None`: any.
    pub(super) fn compile_target(&mut self, observed: &mut KernelState) -> Option<TouchedObjects> {
        let same = self.still_leads_here(observed);
        if !self.stale && same {
            return (!self.recomputes).then(TouchedObjects::default);
        }
        self.stale = false;
        let touched = take(&mut self.touched);
        if same && !self.recomputes && self.is_small(&touched) {
            let objects = self.compile_touched(&touched);
            if objects.is_some() {
                return objects;
            }
        }
        self.compile_everything(observed);
        None
    }

    /// Whether all that a compilation reads of the kernel is as it was, or leads to the same: a look
    /// at a quiet host is cheap, and so is the one after sysctls were set.
    fn still_leads_here(&mut self, observed: &KernelState) -> bool {
        let (Some(target), Some(host)) = (&mut self.target, &self.host) else { return false };
        let Dataplane { contested: here, other_contested: there, .. } = &target.dataplane;
        if contested(&self.config, observed) != (here, there) {
            return false;
        }
        if target.sysctls == observed.sysctls {
            return true;
        }
        // Of another host everything is compiled anew, and while the target is not the latest.
        if self.touched.everything
            || self.kept.is_none()
            || !sysctls_agree(&target.dataplane, host, &self.config, observed)
        {
            return false;
        }
        target.sysctls.clone_from(&observed.sysctls);
        true
    }

    fn is_small(&self, touched: &Touched) -> bool {
        let changed = touched.mappings.len();
        let all = self.cluster.as_ref().map_or(0, |cluster| cluster.mappings.len());
        !touched.everything && (changed <= FEW || changed < all / SHARE)
    }

    /// `None`: everything must be compiled.
    fn compile_touched(&mut self, touched: &Touched) -> Option<TouchedObjects> {
        let (cluster, target) = (self.cluster.as_ref()?, self.target.as_mut()?);
        let mut kept = self.kept.take()?;
        let Update { change, outcomes } =
            kept.update(cluster, &self.references, &self.config, touched);
        if !keeps_clean(&target.dataplane, &target.exposure, &change) {
            return None;
        }
        self.kept = Some(kept);
        let changed = target.dataplane.change(change);
        target.exposure.change(&changed.before, &target.dataplane);
        let objects = target.shares.follow(&mut target.objects, &target.dataplane, &changed);
        note_before(&mut self.judged, changed.before);
        let events = self.report.recompiled(cluster, outcomes);
        self.outbox.extend(events.into_iter().map(Output::Event));
        Some(objects)
    }

    /// A dataplane that breaks an invariant is not programmed: the last good one stays.
    fn compile_everything(&mut self, observed: &mut KernelState) {
        let (Some(cluster), Some(host)) = (&mut self.cluster, &self.host) else { return };
        cluster.pack();
        self.references.pack();
        let compiled = compile(cluster, host, &self.config, &self.numbers, observed);
        let violations = lint(&compiled.dataplane);
        let events = self.report.compiled(cluster, &compiled, &violations);
        self.outbox.extend(events.into_iter().map(Output::Event));
        self.kept = None;
        if violations.is_empty() {
            for (name, uplink) in &compiled.dataplane.uplinks {
                self.numbers.retain(|other, n| other == name || *n != uplink.number);
                self.numbers.insert(name.clone(), uplink.number);
            }
            self.kept = Some(Kept::new(cluster, &self.config, &compiled));
            let dataplane = compiled.dataplane;
            let (objects, shares) = lower_with_shares(&dataplane, self.config.backend);
            let exposure = Exposure::new(&dataplane);
            let sysctls = observed.sysctls.clone();
            let target = Target { dataplane, exposure, objects, shares, sysctls };
            if let Some(old) = self.target.take() {
                if self.as_wanted {
                    observed.nft = old.objects.nft;
                }
                let before = Before::between(old.dataplane, &target.dataplane);
                note_before(&mut self.judged, before);
            }
            self.target = Some(target);
        }
    }
}

/// Connections that were judged were so by what was then.
fn note_before(judged: &mut Judged, before: Before) {
    if let Judged::But(known) = judged {
        known.then(before);
    }
}
