//! Which environment variables a definition may set: not those with which whoever picks the value picks the
//! code that runs. Says no to names only; values are judged elsewhere.

/// Why a name cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadVariable {
    /// Not `[A-Za-z_][A-Za-z0-9_]*` (POSIX.1-2024 section 8.1), or longer than 255 bytes.
    Shape,
    /// A loader, an interpreter or a shell takes code or options from it.
    LoadsCode,
}

impl BadVariable {
    /// What is wrong, to follow the name.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Shape => "is not a variable name",
            Self::LoadsCode => "makes a loader or an interpreter run other code, so it cannot be set",
        }
    }

    /// The cure.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Shape => "use letters, digits and `_`, not a digit first",
            Self::LoadsCode => "write what it should do as arguments in `command`",
        }
    }
}

/// Checks the name of a variable that a definition sets.
pub(super) fn check_variable(name: &str) -> Result<(), BadVariable> {
    let head = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let shaped = name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(head)
        && name.bytes().all(|b| head(b) || b.is_ascii_digit());
    if !shaped {
        return Err(BadVariable::Shape);
    }
    // npm reads its variables in any case.
    let upper = name.to_ascii_uppercase();
    let npm = upper.strip_prefix("NPM_CONFIG_").is_some_and(|rest| NPM.contains(&rest));
    if npm || LOADERS.contains(&name) || LOADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(BadVariable::LoadsCode);
    }
    Ok(())
}

const MAX_NAME: usize = 255;

/// ld.so(8), dyld(1), bash(1) exported functions, and the profilers that .NET loads.
const LOADER_PREFIXES: &[&str] = &["LD_", "DYLD_", "BASH_FUNC_", "CORECLR_", "COR_"];

/// Options of npm that name a program or its flags.
const NPM: &[&str] = &["NODE_OPTIONS", "SCRIPT_SHELL", "GIT", "NODE_GYP", "SHELL"];

/// One line an owner: C library, shells, Node.js, Python, Perl, Ruby, Java, Lua, PHP, .NET, Erlang, R,
/// OpenSSL, TLS key logging, git, pagers.
const LOADERS: &[&str] = &[
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "LOCPATH",
    "NLSPATH",
    "MALLOC_TRACE",
    "RES_OPTIONS",
    "ENV",
    "BASH_ENV",
    "BASHOPTS",
    "SHELLOPTS",
    "IFS",
    "PS4",
    "PROMPT_COMMAND",
    "ZDOTDIR",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "BUN_OPTIONS",
    "ELECTRON_RUN_AS_NODE",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "PYTHONINSPECT",
    "PYTHONBREAKPOINT",
    "PYTHONEXECUTABLE",
    "PYTHONPLATLIBDIR",
    "PYTHONWARNINGS",
    "PYTHONPYCACHEPREFIX",
    "PERL5LIB",
    "PERLLIB",
    "PERL5OPT",
    "PERL5DB",
    "RUBYOPT",
    "RUBYLIB",
    "GEM_HOME",
    "GEM_PATH",
    "BUNDLE_GEMFILE",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "JAVA_OPTIONS",
    "JAVA_OPTS",
    "CLASSPATH",
    "LUA_PATH",
    "LUA_CPATH",
    "LUA_INIT",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "DOTNET_STARTUP_HOOKS",
    "DOTNET_ADDITIONAL_DEPS",
    "DOTNET_SHARED_STORE",
    "ERL_FLAGS",
    "ERL_AFLAGS",
    "ERL_ZFLAGS",
    "ERL_LIBS",
    "R_PROFILE",
    "R_PROFILE_USER",
    "R_ENVIRON",
    "R_ENVIRON_USER",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "SSLKEYLOGFILE",
    "GIT_EXEC_PATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_ASKPASS",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "LESSOPEN",
    "LESSCLOSE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["DSN", "_x", "a1", "NODE_ENV", "PATH", "ENVIRONMENT", "npm_config_loglevel", "LDAP_URL"]
        {
            assert_eq!(check_variable(good), Ok(()), "{good}");
        }
        for bad in ["", "1A", "A-B", "A B", "A=B", "Ä", "A\0", &"x".repeat(256)] {
            assert_eq!(check_variable(bad), Err(BadVariable::Shape), "{bad:?}");
        }
        for bad in
            ["LD_PRELOAD", "LD_anything", "NODE_OPTIONS", "ENV", "PYTHONPATH", "npm_config_node_options"]
        {
            assert_eq!(check_variable(bad), Err(BadVariable::LoadsCode), "{bad}");
        }
    }
}
