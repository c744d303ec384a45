"""`trunkline completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell. Names of networks and hosts are completed from the fabric.

    \b
    To have it in every shell:
      bash:  echo 'source <(trunkline completion bash)' >> ~/.bashrc
      zsh:   trunkline completion zsh > "${fpath[1]}/_trunkline"
      fish:  trunkline completion fish > ~/.config/fish/completions/trunkline.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "trunkline", "_TRUNKLINE_COMPLETE").source())
