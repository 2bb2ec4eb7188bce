//! The chains that a packet enters at a hook, of iptables and nftables in their common order.

use std::ops::{Bound, RangeBounds};

use smartnat_core::objects::{BuiltinHook, XtTable};

use super::path::{Flight, Halt, Walk};
use super::trace::RuleTable;
use crate::kernel::{HookChain, Hooked, translation_priority};

impl<'k> Walk<'k> {
    /// The chains at a hook whose priorities are in a range, but for those that translate.
    pub(super) fn hook(
        &mut self,
        hook: BuiltinHook,
        priorities: impl RangeBounds<i32>,
        flight: &mut Flight<'k>,
    ) -> Result<(), Halt> {
        let hooks = self.hooks;
        for hooked in hooks.at(flight.packet.family(), hook) {
            if !hooked.nat && priorities.contains(&hooked.priority) {
                self.enter(hooked, hook, flight)?;
            }
        }
        Ok(())
    }

    /// The same with translation at its place among them.
    pub(super) fn translating_hook(
        &mut self,
        hook: BuiltinHook,
        priorities: impl RangeBounds<i32>,
        flight: &mut Flight<'k>,
    ) -> Result<(), Halt> {
        let Some(translation) = translation_priority(hook) else {
            return self.hook(hook, priorities, flight);
        };
        self.hook(hook, (priorities.start_bound().cloned(), Bound::Excluded(translation)), flight)?;
        self.translate(hook, flight)?;
        if hook == BuiltinHook::Output && self.destination_was_translated(flight) {
            self.route_again(flight, || XtTable::Nat.into())?;
        }
        self.hook(hook, (Bound::Included(translation), priorities.end_bound().cloned()), flight)
    }

    /// One chain. "Reroute for ANY change" (`ipt_mangle_out`, `nf_route_table_hook4`).
    pub(super) fn enter(
        &mut self,
        hooked: &'k Hooked,
        hook: BuiltinHook,
        flight: &mut Flight<'k>,
    ) -> Result<(), Halt> {
        let mark = flight.packet.mark;
        match &hooked.chain {
            HookChain::Xtables(table) => self.table(*table, hook, flight)?,
            HookChain::Nftables { table, chain } => self.base_chain(table, chain, hook, flight)?,
        }
        if hooked.reroutes && flight.packet.mark != mark {
            self.route_again(flight, || match &hooked.chain {
                HookChain::Xtables(table) => (*table).into(),
                HookChain::Nftables { table, .. } => RuleTable::Nftables(table.clone()),
            })?;
        }
        Ok(())
    }
}
