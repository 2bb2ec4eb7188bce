//! Kernel objects under other numbers of uplinks: P9 holds up to the renaming of marks and tables.

use std::collections::BTreeMap;

use smartnat_core::marks::MarkLayout;
use smartnat_core::model::GatewayConfig;
use smartnat_core::objects::nft::{
    NftExpr, NftKey, NftName, NftTable, NftType, NftValue, NftVerdict,
};
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
        state.nft = state.nft.map(|table| self.nft(table));
        state
    }

    fn nft(&self, table: NftTable) -> NftTable {
        let chains = table.chains.into_iter().map(|(name, mut chain)| {
            for expression in chain.rules.iter_mut().flat_map(|rule| &mut rule.expressions) {
                self.expression(expression);
            }
            (self.chain(&name), chain)
        });
        let sets = table.sets.into_iter().map(|(name, mut set)| {
            let of_marks = set.spec.key == [NftType::Mark];
            let elements = set.elements.into_iter().map(|(key, mut element)| {
                if let NftValue::Verdict(verdict) = &mut element.value {
                    self.verdict(verdict);
                }
                (if of_marks { self.mark_key(&key) } else { key }, element)
            });
            set.elements = elements.collect();
            (name, set)
        });
        NftTable { chains: chains.collect(), sets: sets.collect() }
    }

    fn mark_key(&self, key: &NftKey) -> NftKey {
        NftKey::exact(self.mark(number(&key.first), u32::MAX).to_ne_bytes())
    }

    /// Chains of an uplink have its number in their names.
    fn chain(&self, name: &NftName) -> NftName {
        let mut parts: Vec<String> = name.as_str().split('-').map(str::to_owned).collect();
        if let [kind, old, ..] = parts.as_mut_slice()
            && ["uplink", "egress", "mark"].contains(&kind.as_str())
            && let Some(new) = old.parse().ok().and_then(|old: u32| self.numbers.get(&old))
        {
            *old = new.to_string();
        }
        parts.join("-").into()
    }

    fn verdict(&self, verdict: &mut NftVerdict) {
        if let NftVerdict::Jump(chain) | NftVerdict::Goto(chain) = verdict {
            *chain = self.chain(chain);
        }
    }

    /// A mark is set by what is kept of it and what is added.
    fn expression(&self, expression: &mut NftExpr) {
        match expression {
            NftExpr::Bitwise { mask, xor, .. } if mask.len() == 4 => {
                let set = self.mark(number(xor), !number(mask));
                *xor = set.to_ne_bytes().into();
            }
            NftExpr::Verdict(verdict) => self.verdict(verdict),
            _ => {}
        }
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

/// Four bytes in the host's order.
fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().expect("a mark has four bytes"))
}
