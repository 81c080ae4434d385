//! The program: everything it does is in the library, beginning with [`piecemeal::cli`].

fn main() -> std::process::ExitCode {
    piecemeal::cli::main()
}
