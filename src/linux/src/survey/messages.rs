//! What a survey found, for people.

use super::{ForeignChain, Hook, Listener, MAX_NAMED, NFTABLES, Survey};

impl Survey {
    /// What was found, for people; many of one kind are told by their number.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = named(&self.translations, "foreign rules translate destinations", |t| {
            let what = match &t.uplink {
                Some(uplink) => {
                    format!("translates what is for an address of uplink {uplink}, and")
                }
                None => "translates destinations and".to_owned(),
            };
            let rule = &t.rule;
            format!(
                "a foreign rule in {} {what} may take connections away from Mappings: {rule}",
                t.chain
            )
        });
        messages.extend(self.native_translations.iter().map(|chain| {
            format!("a foreign {chain} translates and may take connections away from Mappings")
        }));
        messages.extend(self.dropping_policies.iter().map(|at| self.of_policy(at)));
        messages.extend(named(&self.native_drops, "chains of nftables drop", |chain| {
            let whose = match chain.hook {
                Hook::Input => "packets of Mappings to endpoints on this host",
                _ => "packets of Mappings",
            };
            format!(
                "{chain} drops what its rules do not accept, {whose} too, whatever rules of ours \
                 accept; give it a rule such as `ct status dnat accept`"
            )
        }));
        messages.extend(named(
            &self.listeners.iter().collect::<Vec<_>>(),
            "programs listen where uplinks reach them",
            |listener| of_listener(listener),
        ));
        messages.extend(self.unreadable.iter().map(|what| format!("cannot be read: {what}")));
        messages
    }

    fn of_policy(&self, at: &ForeignChain) -> String {
        let policy = format!("the policy of {at} is DROP: what no rule accepts there is dropped");
        // Where a table of nftables carries the dataplane, it has chains that accept in both flavours.
        let everywhere = self.serving.is_empty() || self.serving.contains(NFTABLES);
        if everywhere || self.serving.contains(&at.program) {
            return format!("{policy}; packets of Mappings are accepted by rules of ours");
        }
        let ours = self.serving.iter().cloned().collect::<Vec<_>>().join(" and ");
        format!(
            "{policy}, packets of Mappings too, since our rules are in {ours}; make it ACCEPT, or \
             choose the other --iptables-flavour"
        )
    }
}

fn of_listener(listener: &Listener) -> String {
    let Listener { uplink, protocol, address, open_to } = listener;
    let open_to = open_to.iter().cloned().collect::<Vec<_>>().join(", ");
    match uplink {
        Some(uplink) if open_to.is_empty() => format!(
            "a program listens on {protocol} {address}, an address of uplink {uplink}: Mappings of \
             this port come first, and the guard keeps everybody else from it"
        ),
        Some(uplink) => format!(
            "a program listens on {protocol} {address}, an address of uplink {uplink}: Mappings of \
             this port come first, and without the guard it can be reached from {open_to}"
        ),
        None => format!(
            "a program listens on {protocol} port {} of all addresses ({}): without the guard it \
             can be reached from {open_to}",
            address.port(),
            address.ip()
        ),
    }
}

/// A message for each of the first ones, and one with the number of the others.
fn named<T>(found: &[T], kind: &str, message: impl Fn(&T) -> String) -> Vec<String> {
    let mut messages: Vec<String> = found.iter().take(MAX_NAMED).map(message).collect();
    let more = found.len().saturating_sub(MAX_NAMED);
    messages.extend((more > 0).then(|| format!("{more} more {kind}")));
    messages
}
