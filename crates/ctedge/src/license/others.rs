//! The variables of a `codetogether.config` that are none of the license. The file is a shell's: those that the edge knows take effect
//! where the shell that starts it has sourced the file, and all others never do.

use std::collections::BTreeSet;
use std::path::Path;

use ctedge_license::{Field, shell};
use ctedge_node::license::source::read_text;
use ctedge_settings::variables;

/// Says of each variable in the file at `path` that takes no effect that it does not.
pub(crate) fn warn_of_others(path: &Path) {
    // What is wrong with the file itself is told where the license is judged.
    let Ok(text) = read_text(path) else { return };
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    for (line, problem) in without_effect(&text, is_set) {
        tracing::warn!(target: "server", "{} line {line}: {problem}", path.display());
    }
}

/// The variables of the original's kind that take no effect, once each: their line, and why.
fn without_effect(text: &str, is_set: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    let mut told = BTreeSet::new();
    let mut problems = Vec::new();
    for assignment in shell::parse(text).unwrap_or_default() {
        let name = assignment.name;
        let is_of_license = Field::ALL.iter().any(|field| field.variable() == name);
        if !name.starts_with("CT_") || is_of_license || is_set(&name) && is_known(&name) || !told.insert(name.clone()) {
            continue;
        }
        let problem = if is_known(&name) {
            format!(
                "{name} takes no effect: of this file only the license is read; source it in the shell that starts the edge, or set \
                 the variable in its environment"
            )
        } else {
            format!("{name} takes no effect: the edge knows no such variable; take the line away, or see its spelling")
        };
        problems.push((assignment.line, problem));
    }
    problems
}

fn is_known(name: &str) -> bool {
    variables().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_that_takes_no_effect_is_told_once_with_its_line() {
        let text = "export CT_LICENSEE=a CT_REGION=eu\n# CT_COMMENT=1\nCT_SERVR_URL=https://edge.example\nPATH=/bin\n\
                    CT_TIME_ZONE=UTC\nCT_SERVR_URL=again\n";
        let told = without_effect(text, |name| name == "CT_TIME_ZONE");
        let told: Vec<_> = told.iter().map(|(line, problem)| (*line, problem.split(';').next().unwrap())).collect();
        assert_eq!(
            told,
            [
                (1, "CT_REGION takes no effect: of this file only the license is read"),
                (3, "CT_SERVR_URL takes no effect: the edge knows no such variable"),
            ]
        );
    }

    #[test]
    fn an_unknown_variable_has_no_effect_in_the_environment_either() {
        assert_eq!(without_effect("export CT_FOO=1", |_| true).len(), 1);
        assert_eq!(without_effect("export CT_REGION=eu", |_| true), []);
    }
}
