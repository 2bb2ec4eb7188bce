//! What can be wrong with a watch, in classes, and how people mend it.

use std::fmt;

use crate::api;

/// A resource that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchedResource {
    /// Mappings.
    Mappings,
    /// Services.
    Services,
    /// `EndpointSlices`.
    EndpointSlices,
    /// Leases of the instances.
    Leases,
}

impl WatchedResource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mappings, Self::Services, Self::EndpointSlices, Self::Leases];

    /// API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Mappings => api::GROUP,
            Self::Services => "",
            Self::EndpointSlices => "discovery.k8s.io",
            Self::Leases => "coordination.k8s.io",
        }
    }

    /// Name of the resource as in RBAC rules, for example `endpointslices`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Mappings => "mappings",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Leases => "leases",
        }
    }

    /// What following this resource takes.
    fn verbs(self) -> &'static str {
        match self {
            Self::EndpointSlices => r#"["get", "list", "watch"]"#,
            _ => r#"["list", "watch"]"#,
        }
    }
}

impl fmt::Display for WatchedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plural())
    }
}

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects.
    List,
    /// Changes.
    Watch,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
        })
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TroubleClass {
    /// No answer: the network, the address, or the server is down.
    Unreachable,
    /// The credentials are missing, wrong or expired.
    Unauthorized,
    /// The credentials are good, but RBAC does not allow the request.
    Forbidden {
        /// What was asked.
        verb: Verb,
        /// Of which resource, with its group: `endpointslices.discovery.k8s.io`.
        resource: String,
        /// In which namespace; `None`: in all of them.
        namespace: Option<String>,
    },
    /// The API server does not know the resource (yet).
    NotInstalled,
    /// The API server knows the group, but not the version that is understood here.
    WrongVersion {
        /// The versions that it knows.
        served: Vec<String>,
    },
    /// The server's certificate is not trusted, or ours is not by the server.
    Certificate,
    /// The server no longer knows the changes since the last one that was seen (410); a new list
    /// makes up for them.
    Gone,
    /// The server lists an older state than it has shown before.
    Stale,
    /// Anything else.
    Other {
        /// Status code of the answer, if there was one.
        code: Option<u16>,
    },
}

impl TroubleClass {
    /// A short constant name, for metrics and structured logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotInstalled => "not-installed",
            Self::WrongVersion { .. } => "wrong-version",
            Self::Certificate => "certificate",
            Self::Gone => "gone",
            Self::Stale => "stale",
            Self::Other { .. } => "other",
        }
    }
}

/// A watch is in trouble. It is tried again until it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchTrouble {
    /// What cannot be followed.
    pub resource: WatchedResource,
    /// What is wrong.
    pub class: TroubleClass,
    /// For people: what was tried, what went wrong, how to mend it.
    pub message: String,
    /// Failures in a row, this one included.
    pub failures: u32,
}

impl fmt::Display for WatchTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.message)
    }
}

/// What was asked of the API server when something went wrong.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) verb: Verb,
    pub(super) resource: WatchedResource,
    /// `None`: all namespaces.
    pub(super) namespace: Option<String>,
}

impl Attempt {
    /// The class of a refusal by RBAC.
    pub(super) fn forbidden(&self) -> TroubleClass {
        let group = self.resource.group();
        let dot = if group.is_empty() { "" } else { "." };
        TroubleClass::Forbidden {
            verb: self.verb,
            resource: format!("{}{dot}{group}", self.resource.plural()),
            namespace: self.namespace.clone(),
        }
    }

    /// What went wrong and how to mend it, in one line; `detail` is what the error says.
    pub(super) fn describe(&self, class: &TroubleClass, detail: &str) -> String {
        let (verb, resource) = (self.verb, self.resource);
        match class {
            TroubleClass::Unreachable => format!(
                "the API server cannot be reached to {verb} {resource} ({detail}); check that it \
                 runs, its address in the kubeconfig, and the network"
            ),
            TroubleClass::Unauthorized => format!(
                "the API server does not accept the credentials ({detail}); renew the token or \
                 client certificate of the kubeconfig or service account"
            ),
            TroubleClass::Forbidden { .. } => self.describe_forbidden(detail),
            TroubleClass::NotInstalled => format!(
                "the API server does not know {resource}.{group} ({detail}); install the \
                 definition, for example with: smartnat crd | kubectl apply -f -",
                group = resource.group()
            ),
            TroubleClass::WrongVersion { served } => format!(
                "the API server knows {group} in version {served}, but not in {version}; install \
                 the definition of this release, for example with: smartnat crd | kubectl apply -f -",
                group = resource.group(),
                served = served.join(", "),
                version = api::VERSION
            ),
            TroubleClass::Certificate => format!(
                "the certificates of the API server and of the kubeconfig do not fit ({detail}); \
                 check certificate-authority(-data), the server's name, client-certificate(-data) \
                 and the clocks"
            ),
            TroubleClass::Gone => {
                format!(
                    "the API server forgot the changes to {resource} since the last one; listing anew"
                )
            }
            TroubleClass::Stale => format!(
                "the API server lists older {resource} than it has shown before ({detail}); waiting \
                 for it to catch up"
            ),
            TroubleClass::Other { .. } => format!("cannot {verb} {resource}: {detail}"),
        }
    }

    fn describe_forbidden(&self, detail: &str) -> String {
        let (verb, resource) = (self.verb, self.resource);
        let (place, role) = match &self.namespace {
            Some(namespace) => (format!("namespace {namespace}"), "Role of that namespace"),
            None => ("all namespaces".to_owned(), "ClusterRole"),
        };
        format!(
            "may not {verb} {resource} in {place} ({detail}); add this rule to the {role} of \
             SmartNat: {{apiGroups: [\"{group}\"], resources: [\"{plural}\"], verbs: {verbs}}}",
            group = resource.group(),
            plural = resource.plural(),
            verbs = resource.verbs()
        )
    }
}
