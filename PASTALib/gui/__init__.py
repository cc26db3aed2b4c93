"""What the modules show and do on screen: qt and ctk on top of ``PASTALib.mrml``. Nothing here computes."""
