//! Kernel objects under other numbers of uplinks: P9 holds up to the renaming of marks and tables.

use std::collections::BTreeMap;

use smartnat_core::marks::MarkLayout;
use smartnat_core::model::GatewayConfig;
use smartnat_core::objects::{
    KernelState, Route, RoutingRule, RuleAction, XtMatch, XtRule, XtTarget,
};

/// Gives every uplink the number that `to` has for its name.
pub(crate) struct Renumbering {
    layout: MarkLayout,
    table_base: u32,
    numbers: BTreeMap<u32, u32>,
}

impl Renumbering {
    pub(crate) fn new(
        config: &GatewayConfig,
        from: &BTreeMap<String, u32>,
        to: &BTreeMap<String, u32>,
    ) -> Self {
        let numbers =
            from.iter().filter_map(|(name, old)| to.get(name).map(|new| (*old, *new))).collect();
        Self { layout: MarkLayout::new(config.mark_mask), table_base: config.table_base, numbers }
    }

    pub(crate) fn of(&self, mut state: KernelState) -> KernelState {
        state.rules = state.rules.into_iter().map(|rule| self.rule(rule)).collect();
        state.routes = state
            .routes
            .into_iter()
            .map(|route| Route { table: self.table(route.table), ..route })
            .collect();
        for table in state.xtables.values_mut() {
            let rules = table.chains.values_mut().chain(table.jumps.values_mut()).flatten();
            rules.for_each(|rule| self.xt_rule(rule));
        }
        state
    }

    fn table(&self, table: u32) -> u32 {
        let number = table.wrapping_sub(self.table_base);
        self.numbers.get(&number).map_or(table, |new| self.table_base + new)
    }

    /// A mark whose mask covers the uplink's number.
    fn mark(&self, value: u32, mask: u32) -> u32 {
        let field = self.layout.uplink;
        if mask & field != field {
            return value;
        }
        let number = self.numbers.get(&self.layout.uplink_number(value));
        number.map_or(value, |new| value & !field | self.layout.uplink_mark(*new))
    }

    fn rule(&self, mut rule: RoutingRule) -> RoutingRule {
        rule.mark = rule.mark.map(|(value, mask)| (self.mark(value, mask), mask));
        if let RuleAction::Lookup { table, .. } = &mut rule.action {
            *table = self.table(*table);
        }
        rule
    }

    fn xt_rule(&self, rule: &mut XtRule) {
        for m in &mut rule.matches {
            if let XtMatch::ConnMark { value, mask, .. } | XtMatch::Mark { value, mask, .. } = m {
                *value = self.mark(*value, *mask);
            }
        }
        if let XtTarget::SetMark { value, mask } | XtTarget::SetConnMark { value, mask } =
            &mut rule.target
        {
            *value = self.mark(*value, *mask);
        }
    }
}
