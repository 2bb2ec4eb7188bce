//! Every setting with its names; the one place where they are spelled.

/// A setting that the configuration file, a variable or a flag can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Key in the configuration file.
    pub key: &'static str,
    /// Flag, without the dashes.
    pub flag: &'static str,
    /// `SNCTRLR_*` variable of the Go version with the same meaning, without the prefix.
    pub legacy: Option<&'static str>,
    /// What is allowed, to complete "allowed: ...".
    pub allowed: &'static str,
    /// Takes several values.
    pub list: bool,
    /// An empty variable is a value; of all others it is as good as none.
    pub empty: bool,
}

/// Prefix of our variables.
pub const ENV_PREFIX: &str = "SMARTNAT_";
/// Prefix of the Go version's variables.
pub const LEGACY_PREFIX: &str = "SNCTRLR_";

const BOOLEAN: &str = "true or false";
const INTERFACE: &str = "an interface name of 1 to 15 characters without blank and slash";

const fn one(
    key: &'static str,
    flag: &'static str,
    legacy: Option<&'static str>,
    allowed: &'static str,
) -> Setting {
    Setting { key, flag, legacy, allowed, list: false, empty: false }
}

const fn many(key: &'static str, flag: &'static str, allowed: &'static str) -> Setting {
    Setting { key, flag, legacy: None, allowed, list: true, empty: false }
}

/// All settings.
pub const SETTINGS: &[Setting] = &[
    one("instance", "instance", None, "a name of 1 to 253 characters without blank"),
    one(
        "uplinkPattern",
        "uplink-pattern",
        Some("INTERFACES_PATTERN"),
        "a regular expression that the whole name of an uplink matches",
    ),
    many("uplinks", "uplink", INTERFACE),
    one("defaultInterface", "default-interface", Some("DEFAULT_GW_INTERFACE"), INTERFACE),
    many("clusterInterfaces", "cluster-interface", INTERFACE),
    many(
        "gateways",
        "gateway",
        "INTERFACE=ADDRESS, a unicast address, one of each family for an interface",
    ),
    one(
        "gatewayOffset",
        "gateway-offset",
        Some("GW_ADDRESS_OFFSET"),
        "a whole number other than 0; 1 is the first address of the subnet, -1 the last",
    ),
    one("masquerade", "masquerade", Some("SETUP_MASQUERADE"), BOOLEAN),
    one("egress", "egress", Some("SETUP_SNAT"), BOOLEAN),
    one("guard", "guard", None, BOOLEAN),
    one("guardDefaultInterface", "guard-default-interface", None, BOOLEAN),
    one("maxPorts", "max-ports", Some("MAX_PORTS_PER_MAPPING"), "a whole number from 1 to 65535"),
    one(
        "markMask",
        "mark-mask",
        None,
        "a 32-bit number, usually hexadecimal (0x00ff0000), with at least 5 bits set",
    ),
    one("tableBase", "table-base", None, "a whole number from 256 to 2147418112"),
    one("rulePriority", "rule-priority", None, "a whole number from 1 to 32000"),
    one("backend", "backend", None, "auto, nftables, iptables or simulated"),
    one("iptablesFlavour", "iptables-flavour", None, "auto, nft or legacy"),
    one("manifests", "manifests", None, "a directory"),
    one("kubeconfig", "kubeconfig", None, "a file"),
    one("namespace", "namespace", None, "the name of a namespace"),
    one("leaseSeconds", "lease-seconds", None, "a whole number of seconds from 3 to 600"),
    one(
        "maxFinalizeWaitMinutes",
        "max-finalize-wait-minutes",
        Some("MAX_FINALIZE_WAIT_MINUTES"),
        "a whole number of minutes from 0 to 100000",
    ),
    one("stateDir", "state-dir", None, "a directory"),
    one("dataDir", "data-dir", None, "a directory"),
    one("sysctlDir", "sysctl-dir", None, "a directory that holds the kernel's settings in net/"),
    one(
        "lockWaitSeconds",
        "lock-wait-seconds",
        Some("IPTABLES_TIMEOUT_SEC"),
        "a whole number of seconds from 1 to 600",
    ),
    Setting {
        empty: true,
        ..one(
            "monitorAddress",
            "monitor-address",
            Some("MONITOR_IP"),
            "an IP address of this host, or nothing for all of them",
        )
    },
    one(
        "monitorPort",
        "monitor-port",
        Some("MONITOR_PORT"),
        "a whole number from 0 to 65535; 0 serves nothing",
    ),
    one("logFormat", "log-format", None, "text or json"),
    one("logLevel", "log-level", None, "error, warn, info, debug or trace"),
];

impl Setting {
    /// The setting of this key.
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Our variable: `uplinkPattern` is `SMARTNAT_UPLINK_PATTERN`.
    pub fn variable(&self) -> String {
        let mut name = String::from(ENV_PREFIX);
        for character in self.key.chars() {
            if character.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(character.to_ascii_uppercase());
        }
        name
    }
}

/// The known name that `unknown` was likely meant to be.
pub(super) fn likely<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let wanted = plain(unknown);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 4))
        .map(|(_, name)| name)
}
