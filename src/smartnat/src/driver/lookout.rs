//! What is foreign and matters, looked at beside the loop: it takes child processes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use smartnat_core::compile::uplink_names;
use smartnat_core::model::{Family, GatewayConfig, HostState, IptablesFlavour};
use smartnat_core::status::StatusReport;
use smartnat_linux::XtablesSettings;
use smartnat_linux::survey::{Uplinks, forwarding_users, survey};
use tokio::task::JoinHandle;

/// Looks at the host around us; blocks while it does.
pub trait Surveyor: Debug + Send + Sync {
    /// What is foreign and matters to these uplinks, for people.
    fn survey(&self, uplinks: &Uplinks) -> Vec<String>;
    /// What of others needs the host to forward, for people.
    fn forwarding_users(&self) -> BTreeMap<Family, Vec<String>>;
}

/// A surveyor of this process's network namespace.
#[derive(Clone, Copy, Debug)]
pub struct HostSurveyor {
    /// Where our rules are.
    pub flavour: IptablesFlavour,
    /// How iptables is called.
    pub settings: XtablesSettings,
}

impl Surveyor for HostSurveyor {
    fn survey(&self, uplinks: &Uplinks) -> Vec<String> {
        survey(self.flavour, self.settings, uplinks).messages()
    }

    fn forwarding_users(&self) -> BTreeMap<Family, Vec<String>> {
        forwarding_users(self.settings)
    }
}

/// When to look.
#[derive(Debug)]
pub(super) struct Lookout {
    surveyor: Arc<dyn Surveyor>,
    config: GatewayConfig,
    under_way: Option<JoinHandle<Vec<String>>>,
    /// The uplinks of the latest look.
    uplinks: Option<Uplinks>,
}

impl Lookout {
    pub(super) fn new(surveyor: Arc<dyn Surveyor>, config: GatewayConfig) -> Self {
        Self { surveyor, config, under_way: None, uplinks: None }
    }

    /// Begins to look, after the first sync and each time that uplinks have changed.
    pub(super) fn look(&mut self, report: &StatusReport) {
        let news = report.in_sync && self.uplinks.as_ref() != Some(&report.uplinks);
        if news && self.under_way.is_none() {
            self.uplinks = Some(report.uplinks.clone());
            let (surveyor, uplinks) = (Arc::clone(&self.surveyor), report.uplinks.clone());
            self.under_way = Some(tokio::task::spawn_blocking(move || surveyor.survey(&uplinks)));
        }
    }

    /// What was found; waits forever when nobody looks.
    pub(super) async fn found(&mut self) -> Vec<String> {
        let Some(under_way) = &mut self.under_way else { return std::future::pending().await };
        let found = under_way.await;
        self.under_way = None;
        found.unwrap_or_else(|error| vec![format!("the survey of this host failed: {error}")])
    }

    /// Who needs forwarding beside us, if that is about to matter: `host` leaves us without
    /// uplinks, so that forwarding goes back to what it was before us (T16).
    pub(super) async fn forwarding_needed(
        &self,
        host: &HostState,
        report: Option<&StatusReport>,
    ) -> Option<BTreeMap<Family, Vec<String>>> {
        let had_none = report.is_some_and(|report| report.uplinks.is_empty());
        if had_none || !uplink_names(host, &self.config).is_empty() {
            return None;
        }
        let surveyor = Arc::clone(&self.surveyor);
        let users = tokio::task::spawn_blocking(move || surveyor.forwarding_users()).await;
        Some(users.unwrap_or_else(|error| {
            // Not to know is no reason to cut anybody off.
            Family::ALL.map(|family| (family, vec![format!("the survey failed: {error}")])).into()
        }))
    }
}
