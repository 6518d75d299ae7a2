//! The program `commonwatt`.

fn main() -> std::process::ExitCode {
    node::cli::main_with(std::env::args_os())
}
