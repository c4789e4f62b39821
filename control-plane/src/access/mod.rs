//! Who may call what: tokens and certificates, roles, the domains a token is limited to, and how often.
pub mod bootstrap;
pub mod guard;
mod limiter;
mod revocation;
mod scope;
pub mod secret;
pub mod table;

use std::sync::Arc;

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::token::Role;

pub use revocation::Revocations;
use table::Least;

/// Who calls and what for; in the extensions of every request that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For the log: the token's name, the first name of the certificate, or how else it was let in.
    pub name: Arc<str>,
    roles: Vec<Role>,
    /// Push domains it is limited to; empty = all.
    domains: Arc<[String]>,
    /// Nodes it may speak for, by id; None = any.
    nodes: Option<Arc<[String]>>,
}

impl Caller {
    /// Whoever reaches a server that asks for no tokens.
    pub fn local() -> Self {
        Self::with("local", vec![Role::Admin, Role::Node])
    }

    /// The holder of something else than a token of the database.
    pub fn with(name: &str, roles: Vec<Role>) -> Self {
        Self { name: name.into(), roles, domains: Arc::from([]), nodes: None }
    }

    /// A media node that showed a certificate for these names.
    pub fn certified(names: &Arc<[String]>) -> Self {
        let shown = names.first().map_or("certificate", String::as_str);
        Self { nodes: Some(Arc::clone(names)), ..Self::with(&format!("certificate {shown}"), vec![Role::Node]) }
    }

    /// The holder of a token.
    pub fn holder(token: &v1::Token) -> Self {
        let (roles, domains) = (token.roles().collect(), token.domains.clone().into());
        Self { name: token.name.as_str().into(), roles, domains, nodes: None }
    }

    /// Whether one of its roles is enough. The roles of the public API include each other; that of the link stands alone.
    pub fn may(&self, least: Least) -> bool {
        let rank = |role: &Role| match role {
            Role::Viewer => 1,
            Role::Operator => 2,
            Role::Admin => 3,
            Role::Node | Role::Unspecified => 0,
        };
        let highest = self.roles.iter().map(rank).max().unwrap_or(0);
        match least {
            Least::Anyone => true,
            Least::Viewer => highest >= 1,
            Least::Operator => highest >= 2,
            Least::Admin => highest >= 3,
            Least::Node => self.roles.contains(&Role::Node),
        }
    }

    /// The push domains it is limited to; empty = all.
    pub fn domains(&self) -> &Arc<[String]> {
        &self.domains
    }

    /// Whether it may speak for any node.
    pub fn speaks_for_all(&self) -> bool {
        self.nodes.is_none()
    }

    /// Whether it may speak for this node.
    pub fn speaks_for(&self, node: &str) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.iter().any(|name| name == node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_of_the_api_includes_the_one_before_and_the_nodes_stands_alone() {
        let may = |role| {
            [Least::Anyone, Least::Viewer, Least::Operator, Least::Admin, Least::Node]
                .map(|least| Caller::with("x", vec![role]).may(least))
        };
        assert_eq!(may(Role::Unspecified), [true, false, false, false, false]);
        assert_eq!(may(Role::Viewer), [true, true, false, false, false]);
        assert_eq!(may(Role::Operator), [true, true, true, false, false]);
        assert_eq!(may(Role::Admin), [true, true, true, true, false]);
        assert_eq!(may(Role::Node), [true, false, false, false, true]);
    }

    #[test]
    fn a_certificate_speaks_for_the_nodes_it_names_and_a_token_for_any() {
        let certified = Caller::certified(&["m1".to_owned(), "m2".to_owned()].into());
        assert!(certified.speaks_for("m2") && !certified.speaks_for("m3"));
        assert!(Caller::with("token", vec![Role::Node]).speaks_for("m3"));
        assert!(!Caller::certified(&[].into()).speaks_for("m1"), "one without names speaks for nobody");
    }
}
